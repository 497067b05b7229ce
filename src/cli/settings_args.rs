//! The table of settings as flags for clap, and the layers that the process provides.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::config::{self, Effective, Form, Invalid, SETTINGS, Setting, Sources};

/// What the names of our variables begin with.
const PREFIX: &str = "SILLAGE_";
/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "SILLAGE_CONFIG";
/// The variables of the commands that talk to a server.
const CLIENT_VARIABLES: [&str; 2] = ["SILLAGE_URL", "SILLAGE_TOKEN"];

/// The settings given as flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingArgs {
    flags: Vec<(&'static str, String)>,
    file: Option<PathBuf>,
}

impl SettingArgs {
    /// Only the directory and the configuration file, for commands that take no other setting.
    pub(crate) fn of_directory(data: Option<String>, file: Option<PathBuf>) -> SettingArgs {
        SettingArgs { flags: data.map(|data| ("data", data)).into_iter().collect(), file }
    }

    /// Joins defaults, file, environment and flags.
    ///
    /// # Errors
    /// The first value that is refused.
    pub(crate) fn load(&self) -> Result<Effective, Invalid> {
        let file = self.file.clone().or_else(|| variable(CONFIG_VARIABLE).map(PathBuf::from));
        config::load(&Sources { flags: &self.flags, file: file.as_deref(), variable })
    }
}

/// Variables that look like settings and are none: somebody has misspelt one. They may belong to
/// something else after all, so they are no error as an unknown key of the file is.
pub(crate) fn unknown_variables() -> Vec<String> {
    let names = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut unknown: Vec<String> = names.filter(|name| is_unknown(name)).collect();
    unknown.sort();
    unknown
}

fn is_unknown(name: &str) -> bool {
    let is_known = || {
        name == CONFIG_VARIABLE
            || CLIENT_VARIABLES.contains(&name)
            || SETTINGS.iter().any(|setting| setting.variable() == name)
    };
    name.starts_with(PREFIX) && !is_known()
}

/// An empty variable counts as unset: that is how compose files and scripts leave one out.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn argument(setting: &'static Setting) -> Arg {
    let flag = setting.flag();
    let long = flag.trim_start_matches('-').to_owned();
    let mut help = setting.help.to_owned();
    let default = setting.default.or(setting.otherwise);
    if let (Some(default), false) = (default, setting.form == Form::Switch) {
        help.push_str(&format!(" [default: {default}]"));
    }
    help.push_str(&format!(" [env: {}]", setting.variable()));
    let argument = Arg::new(setting.key).long(long).help(help);
    match setting.form {
        Form::Text(placeholder) | Form::List(placeholder) => argument.value_name(placeholder),
        // So that `-5` reaches the setting, which says what it takes instead.
        Form::Number => argument.value_name("N").allow_negative_numbers(true),
        // A bare flag means true; `--reset=false` overrides a file that says true.
        Form::Switch => argument
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .hide_possible_values(true)
            .default_missing_value("true"),
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(format!(
                "A TOML file of settings: the names of these flags with _ for - [env: \
                 {CONFIG_VARIABLE}]"
            ));
        SETTINGS.iter().fold(command.arg(file), |command, setting| command.arg(argument(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingArgs::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SettingArgs, clap::Error> {
        let given = |setting: &'static Setting| {
            let text = matches.get_one::<String>(setting.key)?;
            Some((setting.key, text.clone()))
        };
        let flags = SETTINGS.iter().filter_map(given).collect();
        Ok(SettingArgs { flags, file: matches.get_one("config").cloned() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SettingArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_setting_and_is_none_is_unknown() {
        for name in ["SILLAGE_LISTN", "SILLAGE_", "SILLAGE_listen"] {
            assert!(is_unknown(name), "{name}");
        }
        for name in ["SILLAGE_LISTEN", "SILLAGE_CONFIG", "SILLAGE_URL", "SILLAGE_TOKEN", "PATH"] {
            assert!(!is_unknown(name), "{name}");
        }
    }
}
