//! Numbers that may be given as a share of a whole.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// `value` as a number of `total`, a percentage rounded up. What is no percentage counts as zero: validation
/// has seen to it.
pub fn scaled_up(value: &IntOrString, total: i32) -> i32 {
    scaled(value, total, |share| share.ceil())
}

/// As [`scaled_up`], rounded down.
pub fn scaled_down(value: &IntOrString, total: i32) -> i32 {
    scaled(value, total, |share| share.floor())
}

fn scaled(value: &IntOrString, total: i32, round: fn(f64) -> f64) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0);
            round(percent as f64 * f64::from(total) / 100.0) as i32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_asked() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!((scaled_up(&quarter, 10), scaled_down(&quarter, 10)), (3, 2));
        assert_eq!(
            (scaled_up(&IntOrString::Int(7), 3), scaled_down(&IntOrString::String("x".into()), 3)),
            (7, 0)
        );
    }
}
