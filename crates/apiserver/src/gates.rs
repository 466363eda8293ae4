//! Feature gates: which there are in Kubernetes 1.36, how mature, and whether they may be changed. Most of them switch
//! nothing here (what they guard is always on, or not offered); a name that does not exist is refused, as upstream does.
//!
//! Source: <https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/>.

/// `NAME STAGE on|off [locked]`, by name.
const TABLE: &str = include_str!("gates.txt");

/// A known gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    pub name: &'static str,
    /// `ALPHA`, `BETA`, `GA` or `DEPRECATED`.
    pub stage: &'static str,
    pub default: bool,
    pub locked: bool,
}

pub fn known() -> impl Iterator<Item = Gate> {
    TABLE.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, stage, default) = (words.next()?, words.next()?, words.next()? == "on");
        Some(Gate { name, stage, default, locked: words.next().is_some() })
    })
}

/// What is wrong with the gates that were set, in upstream's words.
pub fn check(set: &[(String, bool)]) -> Result<(), String> {
    for (name, on) in set {
        let Some(gate) = known().find(|gate| gate.name == name) else {
            return Err(format!("unrecognized feature gate: {name}"));
        };
        if gate.locked && *on != gate.default {
            return Err(format!(
                "cannot set feature gate {name} to {on}, feature is locked to {}",
                gate.default
            ));
        }
    }
    Ok(())
}

impl Gate {
    /// Whether it is on: as it was set, else with its whole stage (`AllAlpha`, `AllBeta`), else by default.
    pub fn is_on(&self, set: &[(String, bool)]) -> bool {
        let given = |name: &str| set.iter().rev().find(|(n, _)| n == name).map(|(_, on)| *on);
        let stage = match self.stage {
            "ALPHA" => "AllAlpha",
            "BETA" => "AllBeta",
            _ => "",
        };
        given(self.name).or_else(|| given(stage)).unwrap_or(self.default)
    }
}

/// Whether the gate of this name is on; one that is not known is off.
pub fn is_on(set: &[(String, bool)], name: &str) -> bool {
    known().find(|gate| gate.name == name).is_some_and(|gate| gate.is_on(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<(String, bool)> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, on)| (name.to_owned(), on == "true")).collect()
    }

    #[test]
    fn gates_are_known_and_locked_ones_stay() {
        assert!(known().count() > 200);
        for (text, says) in [
            ("CBORServingAndStorage=true,WatchList=false", Ok(())),
            ("CBORServing=true", Err("unrecognized feature gate: CBORServing")),
            ("APIServerTracing=true", Ok(())),
            (
                "APIServerTracing=false",
                Err("cannot set feature gate APIServerTracing to false, feature is locked to true"),
            ),
        ] {
            assert_eq!(check(&set(text)), says.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_stage_is_switched_as_a_whole() {
        for (text, name, on) in [
            ("", "CBORServingAndStorage", false),
            ("", "APIResponseCompression", true),
            ("AllAlpha=true", "CBORServingAndStorage", true),
            ("AllAlpha=true,CBORServingAndStorage=false", "CBORServingAndStorage", false),
            ("AllBeta=false", "APIResponseCompression", false),
            ("AllBeta=false", "APIServerTracing", true),
        ] {
            assert_eq!(is_on(&set(text), name), on, "{text} {name}");
        }
    }
}
