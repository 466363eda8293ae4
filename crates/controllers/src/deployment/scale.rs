//! How many replicas each ReplicaSet should have.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, by_age, by_size, count_annotation};
use crate::common::{scaled_down, scaled_up};

/// The replicas a Deployment asks for.
pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The replicas a ReplicaSet asks for.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Surge and unavailability in pods. Both at zero would stand still, so then one may be unavailable.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let total = wanted(deployment);
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let surge = scaled_up(&rolling.max_surge.unwrap_or(IntOrString::Int(0)), total);
    let unavailable = scaled_down(&rolling.max_unavailable.unwrap_or(IntOrString::Int(0)), total);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) { 0 } else { fenceposts(deployment).0 }
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    if is_recreate(deployment) || wanted(deployment) == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(wanted(deployment))
}

/// What the new set may have now, with `total` replicas in all sets together.
pub(super) fn new_set_size(deployment: &Deployment, current: i32, total: i32) -> i32 {
    let wanted = wanted(deployment);
    if is_recreate(deployment) || current >= wanted {
        return wanted;
    }
    let most = wanted + max_surge(deployment);
    if total >= most { current } else { current + (most - total).min(wanted - current) }
}

/// The old sets' sizes while a rollout goes on: first what is not healthy goes, then as many as availability allows.
pub(super) fn scale_down_old(deployment: &Deployment, old: &mut [ReplicaSet], new: &ReplicaSet) {
    old.sort_by(by_age);
    let total: i32 = old.iter().map(replicas).sum::<i32>() + replicas(new);
    let least_available = wanted(deployment) - max_unavailable(deployment);
    let new_unavailable = replicas(new) - available(new);
    let mut room = total - least_available - new_unavailable;
    if room <= 0 {
        return;
    }
    for set in old.iter_mut() {
        let unhealthy = (replicas(set) - available(set)).clamp(0, room);
        resize(set, replicas(set) - unhealthy);
        room -= unhealthy;
    }
    let mut surplus = old.iter().map(available).sum::<i32>() + available(new) - least_available;
    for set in old.iter_mut() {
        if surplus <= 0 {
            return;
        }
        let less = replicas(set).min(surplus);
        resize(set, replicas(set) - less);
        surplus -= less;
    }
}

/// The sizes after the Deployment itself was scaled, or while it is paused: the one set in use takes it all, and
/// several share it in proportion, so that no rollout is sped up by it.
pub(super) fn scale_proportionally(deployment: &Deployment, sets: &mut [ReplicaSet], new: Option<usize>) {
    let total_wanted = wanted(deployment);
    let active: Vec<usize> = (0..sets.len()).filter(|n| replicas(&sets[*n]) > 0).collect();
    if active.len() <= 1 {
        let newest_old = || (0..sets.len()).max_by(|a, b| by_age(&sets[*a], &sets[*b]));
        if let Some(n) = active.first().copied().or(new).or_else(newest_old) {
            resize(&mut sets[n], total_wanted);
        }
        return;
    }
    if new.is_some_and(|n| is_saturated(deployment, &sets[n])) {
        for n in active {
            if Some(n) != new {
                resize(&mut sets[n], 0);
            }
        }
        return;
    }
    if is_recreate(deployment) {
        return;
    }
    let allowed = if total_wanted > 0 { total_wanted + max_surge(deployment) } else { 0 };
    let to_add = allowed - active.iter().map(|n| replicas(&sets[*n])).sum::<i32>();
    let mut order = active;
    order.sort_by(|a, b| by_size(&sets[*a], &sets[*b], to_add > 0));
    let mut added = 0;
    let mut sizes = Vec::new();
    for n in &order {
        let share = proportion(deployment, &sets[*n], to_add, added);
        added += share;
        sizes.push(replicas(&sets[*n]) + share);
    }
    // What rounding left over goes to the largest.
    sizes[0] = (sizes[0] + to_add - added).max(0);
    for (n, size) in order.into_iter().zip(sizes) {
        resize(&mut sets[n], size);
    }
}

fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if to_add == 0 || to_add == added {
        return 0;
    }
    let (share, left) = (fraction(deployment, set), to_add - added);
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

/// By how much the set grows if it keeps its share of the Deployment's largest size.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if wanted(deployment) == 0 {
        return -replicas(set);
    }
    let known = count_annotation(set, MAX_REPLICAS).filter(|count| *count > 0);
    let reported =
        || deployment.status.as_ref().and_then(|status| status.replicas).filter(|count| *count > 0);
    let Some(before) = known.or_else(reported) else { return 0 };
    let now = wanted(deployment) + max_surge(deployment);
    let size = f64::from(replicas(set)) * f64::from(now) / f64::from(before);
    size.round() as i32 - replicas(set)
}

/// The set holds all that the Deployment wants, knows it, and all of it is available.
fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    count_annotation(set, DESIRED_REPLICAS) == Some(wanted)
        && replicas(set) == wanted
        && available(set) == wanted
}

pub(super) fn resize(set: &mut ReplicaSet, size: i32) {
    set.spec.get_or_insert_default().replicas = Some(size);
}
