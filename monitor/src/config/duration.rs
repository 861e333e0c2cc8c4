//! Lengths of time as people write them.

use std::time::Duration;

use super::value::ValueError;

/// A length of time as people write it: `250us`, `1.5s`, `1m30s`. Units: ns, us, ms, s, m, h, d; a bare number is refused.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let mistake = || ValueError(format!("`{text}` is not a duration such as 500ms, 10s or 1m30s"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(mistake());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(mistake)?;
        let number: f64 = rest[..end].parse().map_err(|_| mistake())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(mistake()),
        };
        rest = &rest[end..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| mistake())?;
        total = total.checked_add(part).ok_or_else(mistake)?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let check = |text: &str, nanos: Option<u128>| {
            assert_eq!(parse_duration(text).ok().map(|d| d.as_nanos()), nanos, "{text}")
        };
        check("10s", Some(10_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check("1m30s", Some(90_000_000_000));
        check("250us", Some(250_000));
        check("1ms", Some(1_000_000));
        check("2h", Some(7_200_000_000_000));
        check("1d", Some(86_400_000_000_000));
        check("0s", Some(0));
        check("10", None);
        check("s", None);
        check("1x", None);
        check("1.2.3s", None);
        check("-1s", None);
        check("9999999999999999999999d", None);
        check("", None);
    }
}
