//! The query of a request, decoded and checked against what its route takes.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::http::problem::{Fault, Kind, Place, Problem};

/// Query parameters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    /// The value of a parameter; `None` when it is not given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// Reads `text`, the query without `?`, of a route that takes the parameters `known`.
    ///
    /// # Errors
    /// A 400 that lists every parameter that is unknown, repeated or not UTF-8.
    pub(crate) fn parse(text: &str, known: &'static [&'static str]) -> Result<Query, Problem> {
        let mut query = Query::default();
        let mut faults = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if let Err(fault) = query.add(pair, known) {
                faults.push(fault);
            }
        }
        if faults.is_empty() {
            return Ok(query);
        }
        Err(Problem::invalid(Kind::InvalidQuery, &faults, 0))
    }

    fn add(&mut self, pair: &str, known: &'static [&'static str]) -> Result<(), Fault> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name).map_err(|()| fault(name, "is not UTF-8"))?;
        let Some(known_name) = known.iter().find(|known| **known == name) else {
            return Err(fault(&name, unknown(known)));
        };
        if self.get(known_name).is_some() {
            return Err(fault(&name, "is given twice"));
        }
        let value = decode(value).map_err(|()| fault(&name, "is not UTF-8"))?;
        self.0.push((known_name, value));
        Ok(())
    }
}

fn fault(name: &str, detail: impl Into<Cow<'static, str>>) -> Fault {
    Fault { place: Place::Parameter(Cow::Owned(name.into())), detail: detail.into() }
}

fn unknown(known: &[&str]) -> Cow<'static, str> {
    match known {
        [] => Cow::Borrowed("is unknown; this call takes none"),
        known => Cow::Owned(format!("is unknown; this call takes {}", known.join(", "))),
    }
}

/// As in HTML forms: `+` is a blank, `%` escapes bytes of UTF-8.
fn decode(text: &str) -> Result<String, ()> {
    let blanks = text.replace('+', " ");
    percent_decode_str(&blanks).decode_utf8().map(Cow::into_owned).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "name"];

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("name=Iso+E%20S%C3%BCper&limit=", KNOWN).expect("valid");
        assert_eq!(query.get("name"), Some("Iso E Süper"));
        assert_eq!(query.get("limit"), Some(""));
        assert_eq!(query.get("after"), None);
    }

    #[test]
    fn all_faults_are_listed_at_once() {
        let problem = Query::parse("limit=1&limit=2&x=1&name=%ff", KNOWN).expect_err("invalid");
        let mut json = Vec::new();
        problem.render(&mut json, None);
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let errors = json["errors"].as_array().expect("a list");
        let parameters: Vec<_> = errors.iter().map(|e| e["parameter"].as_str()).collect();
        assert_eq!(parameters, [Some("limit"), Some("x"), Some("name")]);
    }
}
