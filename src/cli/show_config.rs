//! `sillage config`: the configuration that would hold, as a file that could be used again.

use std::io::Write;

use crate::cli::failure::{Exit, Failure};
use crate::cli::settings_args::SettingArgs;
use crate::config::{EffectiveValue, Form, SETTINGS, Secrecy, Setting};

/// What stands in place of a secret.
const MASK: &str = "********";

/// Prints each setting with its value and origin.
pub(crate) fn run(arguments: &SettingArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let effective = arguments.load()?;
    for (setting, value) in SETTINGS.iter().zip(&effective.values) {
        writeln!(out, "{}", line(setting, value)).map_err(Failure::Output)?;
    }
    Ok(Exit::Success)
}

fn line(setting: &Setting, value: &EffectiveValue) -> String {
    let Some(text) = &value.text else {
        let otherwise = setting.otherwise.map(|otherwise| format!(": {otherwise}"));
        return format!("# {} is not set{}", setting.key, otherwise.unwrap_or_default());
    };
    let shown = match (setting.secrecy, setting.form) {
        (Secrecy::Secret, _) => quoted(MASK),
        (Secrecy::Plain, Form::Switch | Form::Number) => text.clone(),
        (Secrecy::Plain, Form::Text(_) | Form::List(_)) => quoted(text),
    };
    format!("{} = {shown}  # {}", setting.key, value.origin.describe(setting))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, find};

    #[test]
    fn secrets_are_masked_whatever_their_origin() {
        let mut secret = *find("tokens").expect("a setting");
        secret.secrecy = Secrecy::Secret;
        for origin in [Origin::Default, Origin::Variable, Origin::Flag] {
            let value = EffectiveValue { text: Some("hunter2".to_owned()), origin };
            let shown = line(&secret, &value);
            assert!(!shown.contains("hunter2") && shown.contains(MASK), "{shown}");
        }
    }

    #[test]
    fn text_is_quoted_so_that_the_output_is_a_configuration_file() {
        let data = find("data").expect("a setting");
        let text = Some("C:\\store \"one\"".to_owned());
        let shown = line(data, &EffectiveValue { text, origin: Origin::Flag });
        let table: toml::Table = shown.parse().expect("TOML");
        assert_eq!(table["data"].as_str(), Some("C:\\store \"one\""));
        assert!(shown.ends_with("# --data"));
    }
}
