//! Values of arguments: dollars, `K=V`, and options that can be taken away with `none`.

use std::str::FromStr;

use skein_engine::ids::Micros;

/// A value, or the word `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maybe<T>(pub(crate) Option<T>);

impl<T: FromStr> FromStr for Maybe<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text.eq_ignore_ascii_case("none") { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// Dollars, exact to a millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usd(pub(crate) Micros);

impl FromStr for Usd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "dollars, such as 2.50".to_owned();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 6 || (whole.is_empty() && fraction.is_empty()) {
            return Err(wrong());
        }
        let micros = format!("{whole}{fraction:0<6}").parse().map_err(|_| wrong())?;
        Ok(Self(Micros(micros)))
    }
}

/// `K=V`; the value may hold further `=`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact_to_a_millionth() {
        for (text, micros) in
            [("2.50", 2_500_000), ("0.000001", 1), ("3", 3_000_000), (".5", 500_000), ("7.", 7_000_000)]
        {
            assert_eq!(text.parse(), Ok(Usd(Micros(micros))), "{text}");
        }
        for text in ["", ".", "-1", "1,50", "0.0000001", "1e3", "$5", "99999999999999999999"] {
            assert!(text.parse::<Usd>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert_eq!("None".parse(), Ok(Maybe::<u64>(None)));
        assert!("no".parse::<Maybe<u64>>().is_err());
    }
}
