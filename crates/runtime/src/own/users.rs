//! Who a container runs as: numbers from CRI, or names looked up in the image's own files.

use std::path::Path;

use kernel::rootdir::RootDir;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// `USER[:GROUP]`, names or numbers, from the image.
    pub image: &'a str,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub name: &'a str,
    pub groups: &'a [i64],
    /// Supplementary groups from the image's group file count too.
    pub merge: bool,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

/// A large account file is not a reason to fail, an endless one is.
const MAX_FILE: u64 = 1 << 20;

pub fn resolve(rootfs: &RootDir, wanted: &Wanted<'_>) -> Result<User, String> {
    let passwd = rootfs.read_to_string(Path::new("etc/passwd"), MAX_FILE).unwrap_or_default();
    let group = rootfs.read_to_string(Path::new("etc/group"), MAX_FILE).unwrap_or_default();
    resolve_in(&passwd, &group, wanted)
}

fn resolve_in(passwd: &str, group: &str, wanted: &Wanted<'_>) -> Result<User, String> {
    let (passwd, group): (Vec<Passwd>, Vec<Group>) =
        (passwd.lines().filter_map(passwd_line).collect(), group.lines().filter_map(group_line).collect());
    let id = |id: i64| u32::try_from(id).map_err(|_| format!("invalid id {id}"));
    let (user_text, group_text) = match (wanted.uid, wanted.name) {
        (Some(uid), _) => (id(uid)?.to_string(), ""),
        (None, "") => {
            let (user, group) = wanted.image.split_once(':').unwrap_or((wanted.image, ""));
            (if user.is_empty() { "0".to_owned() } else { user.to_owned() }, group)
        }
        (None, name) => (name.to_owned(), ""),
    };
    let entry = match user_text.parse::<u32>() {
        Ok(uid) => passwd.iter().find(|entry| entry.uid == uid),
        Err(_) => {
            let found = passwd.iter().find(|entry| entry.name == user_text);
            Some(found.ok_or_else(|| format!("no users found for {user_text}"))?)
        }
    };
    let uid = match entry {
        Some(entry) => entry.uid,
        None => user_text.parse().map_err(|_| format!("no users found for {user_text}"))?,
    };
    let gid = match (wanted.gid, group_text) {
        (Some(gid), _) => id(gid)?,
        (None, "") => entry.map_or(0, |entry| entry.gid),
        (None, text) => match text.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let found = group.iter().find(|entry| entry.name == text);
                found.ok_or_else(|| format!("no groups found for {text}"))?.gid
            }
        },
    };
    let mut groups = vec![gid];
    if let (true, Some(entry)) = (wanted.merge, entry) {
        groups
            .extend(group.iter().filter(|group| group.members.contains(&entry.name)).map(|group| group.gid));
    }
    for extra in wanted.groups {
        groups.push(id(*extra)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).map(str::to_owned);
    Ok(User { uid, gid, groups, home })
}

fn passwd_line(line: &str) -> Option<Passwd<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    Some(Passwd {
        name: fields.first()?,
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: fields.get(5).unwrap_or(&""),
    })
}

fn group_line(line: &str) -> Option<Group<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    let members = fields.get(3).unwrap_or(&"").split(',').filter(|name| !name.is_empty()).collect();
    Some(Group { name: fields.first()?, gid: fields.get(2)?.parse().ok()?, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbad line\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nextra:x:50:app,other\n";

    fn check(wanted: Wanted<'_>, uid: u32, gid: u32, groups: &[u32]) {
        let user = resolve_in(PASSWD, GROUP, &wanted).unwrap();
        assert_eq!((user.uid, user.gid, user.groups.as_slice()), (uid, gid, groups), "{wanted:?}");
    }

    #[test]
    fn users_and_groups() {
        let merge = Wanted { merge: true, ..Wanted::default() };
        check(merge.clone(), 0, 0, &[0]);
        check(Wanted { image: "app", ..merge.clone() }, 1000, 1001, &[1001, 50]);
        check(Wanted { image: "app", merge: false, ..merge.clone() }, 1000, 1001, &[1001]);
        check(Wanted { image: "1000:extra", ..merge.clone() }, 1000, 50, &[50]);
        check(Wanted { image: "app", uid: Some(7), ..merge.clone() }, 7, 0, &[0]);
        check(
            Wanted { uid: Some(1000), gid: Some(3), groups: &[9, 3], ..merge.clone() },
            1000,
            3,
            &[3, 50, 9],
        );
        assert!(resolve_in(PASSWD, GROUP, &Wanted { image: "nobody", ..merge.clone() }).is_err());
        assert!(resolve_in(PASSWD, GROUP, &Wanted { uid: Some(-1), ..merge }).is_err());
    }
}
