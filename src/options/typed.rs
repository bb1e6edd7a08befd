//! The options of each verb as typed: texts, and where each was given. argh parses the command line
//! into these structs; `environment` adds options that are not on it. `config` and the verbs
//! interpret the texts.
//!
//! Each field is an option: `until_quiet` is --until-quiet and DRAIN_INIT_UNTIL_QUIET. The text of
//! --help is in help.txt; a test keeps the two in step.

#![forbid(unsafe_code)]

use argh::{FromArgValue, FromArgs};

/// The prefix of every variable.
pub const PREFIX: &str = "DRAIN_INIT_";

/// Defines the struct that argh fills, and the list of its options. `operand` is the positional
/// argument. Types are spelled out in tokens, since argh inspects how they are written.
macro_rules! options {
    (
        $(#[$of_struct:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: $type:ident $(<$of:ident>)?,)*
            $(operand $operand:ident: $of_operand:ident $(<$of_each:ident>)?, $shown:literal)?
        }
    ) => {
        $(#[$of_struct])*
        #[derive(Debug, Default, FromArgs)]
        #[argh(help_triggers("--help"))]
        pub struct $name {
            $($(#[$of_field])* pub $field: $type $(<$of>)?,)*
            $(#[argh(positional, arg_name = $shown)] pub $operand: $of_operand $(<$of_each>)?,)?
        }

        impl Texts for $name {
            fn options(&mut self) -> Vec<(&'static str, &mut dyn Slot)> {
                vec![$((stringify!($field), &mut self.$field)),*]
            }
        }
    };
}

options! {
    /// The options of an entrypoint; a hook takes some of them.
    pub struct Options {
        #[argh(option)] pub delay: Option<Given>,
        #[argh(option)] pub until_quiet: Option<Given>,
        #[argh(option)] pub quiet_on: Option<Given>,
        #[argh(option)] pub close_idle: Option<Given>,
        #[argh(option)] pub in_flight: Option<Given>,
        #[argh(option)] pub watch_port: Vec<Given>,
        #[argh(option)] pub ignore_peer: Vec<Given>,
        #[argh(option)] pub max_delay: Option<Given>,
        #[argh(option)] pub on_drain: Vec<Given>,
        #[argh(option)] pub drain_file: Option<Given>,
        #[argh(option)] pub grace: Option<Given>,
        #[argh(option)] pub kill_margin: Option<Given>,
        #[argh(option)] pub stop_on: Vec<Given>,
        #[argh(option)] pub stop_signal: Option<Given>,
        #[argh(option)] pub escalate: Vec<Given>,
        #[argh(option)] pub orphan_grace: Option<Given>,
        #[argh(option)] pub on_exit: Vec<Given>,
        #[argh(option)] pub start_after: Vec<Given>,
        #[argh(option)] pub start_timeout: Option<Given>,
        #[argh(option)] pub ready_file: Option<Given>,
        #[argh(option)] pub ready_listen: Option<Given>,
        #[argh(option)] pub ready_check: Option<Given>,
        #[argh(switch)] pub ready_notify: bool,
        #[argh(option)] pub header: Vec<Given>,
        #[argh(option)] pub unready_delay: Option<Given>,
        #[argh(option)] pub map_signal: Vec<Given>,
        #[argh(switch, short = 'g')] pub group: bool,
        #[argh(option)] pub parent_death_signal: Option<Given>,
        #[argh(option)] pub map_exit: Vec<Given>,
        #[argh(option)] pub map_stop_exit: Vec<Given>,
        #[argh(option)] pub termination_log: Option<Given>,
        #[argh(option)] pub log_format: Option<Given>,
        #[argh(switch, short = 'q')] pub quiet: bool,
        #[argh(switch, short = 'v')] pub verbose: bool,
    }
}

options! {
    /// The options of verbs that ask targets: `probe`, `wait`, and companions.
    pub struct Asking {
        #[argh(option)] pub timeout: Option<Given>,
        #[argh(option)] pub header: Vec<Given>,
        #[argh(option)] pub log_format: Option<Given>,
        #[argh(switch, short = 'q')] pub quiet: bool,
        operand targets: Vec<String>, "TARGET"
    }
}

options! {
    /// The options of `install`: none.
    pub struct Install {
        operand dest: String, "DEST"
    }
}

/// The options whose variable has one value per line, as values may contain commas.
pub const ONE_A_LINE: [&str; 3] = ["on_drain", "on_exit", "header"];

/// Whether any verb has this option.
pub fn is_known(is_it: impl Fn(&str) -> bool) -> bool {
    let (mut options, mut asking) = (Options::default(), Asking::default());
    options.options().iter().chain(&asking.options()).any(|(option, _)| is_it(option))
}

/// An option as on the command line, without its dashes.
pub fn dashed(option: &str) -> String {
    option.replace('_', "-")
}

/// A struct that argh fills from a command line.
pub trait Texts: FromArgs + Default {
    /// Each option by the name of its field.
    fn options(&mut self) -> Vec<(&'static str, &mut dyn Slot)>;
}

/// An option's text, and where it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The name of the field.
    pub option: &'static str,
    pub text: &'static str,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    CommandLine,
    Environment,
}

impl FromArgValue for Given {
    /// argh does not pass the option's name; `Slot::name` adds it.
    fn from_arg_value(text: &str) -> Result<Self, String> {
        // It lives until the process ends, as the arguments do.
        let text = text.to_owned().leak();
        Ok(Self { option: "", text, source: Source::CommandLine })
    }
}

/// The values of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// One value, once.
    Value,
    /// Any number of values.
    Values,
    /// No value: a switch.
    Nothing,
}

/// The field of an option.
pub trait Slot {
    fn takes(&self) -> Takes;
    fn is_given(&self) -> bool;
    /// Adds a text; turns a switch on.
    fn give(&mut self, given: Given);
    /// Names the option in each text.
    fn name(&mut self, option: &'static str);
}

impl Slot for Option<Given> {
    fn takes(&self) -> Takes {
        Takes::Value
    }

    fn is_given(&self) -> bool {
        self.is_some()
    }

    fn give(&mut self, given: Given) {
        *self = Some(given);
    }

    fn name(&mut self, option: &'static str) {
        self.iter_mut().for_each(|given| given.option = option);
    }
}

impl Slot for Vec<Given> {
    fn takes(&self) -> Takes {
        Takes::Values
    }

    fn is_given(&self) -> bool {
        !self.is_empty()
    }

    fn give(&mut self, given: Given) {
        self.push(given);
    }

    fn name(&mut self, option: &'static str) {
        self.iter_mut().for_each(|given| given.option = option);
    }
}

impl Slot for bool {
    fn takes(&self) -> Takes {
        Takes::Nothing
    }

    fn is_given(&self) -> bool {
        *self
    }

    fn give(&mut self, _: Given) {
        *self = true;
    }

    fn name(&mut self, _: &'static str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Options {
        /// As if these options, named by their fields, had been typed with these texts.
        pub fn of(typed: &[(&str, &'static str)]) -> Self {
            let mut options = Self::default();
            for (name, text) in typed {
                let mut slots = options.options();
                let (option, slot) =
                    slots.iter_mut().find(|(option, _)| option == name).expect("an option");
                slot.give(Given { option, text, source: Source::CommandLine });
            }
            options
        }
    }

    /// Every option is in --help and in docs/options.md, with its variable.
    #[test]
    fn every_option_is_documented_with_its_variable() {
        let help = include_str!("help.txt");
        let table = include_str!("../../docs/options.md");
        let (mut options, mut asking) = (Options::default(), Asking::default());
        let mut all = options.options();
        for (field, slot) in asking.options() {
            if !all.iter().any(|(known, _)| *known == field) {
                all.push((field, slot));
            }
        }
        for (field, slot) in &all {
            let (option, name) = (dashed(field), field.to_ascii_uppercase());
            assert!(help.contains(&format!(" --{option} ")), "--help lacks {option}");
            assert!(help.contains(&format!("[{PREFIX}{name}, ")), "--help lacks {name}");
            assert!(table.contains(&format!("`--{option}")), "docs/options.md lacks {option}");
            // A switch may have a short form: its first letter.
            let short = format!("  -{}, --{option} ", &option[..1]);
            let has_short = slot.takes() == Takes::Nothing && *field != "ready_notify";
            assert_eq!(help.contains(&short), has_short, "{short}");
        }
        let count = help.matches("[DRAIN_INIT_").count();
        assert_eq!(count, all.len(), "--help names a variable too many");
    }

    #[test]
    fn help_fits_a_terminal() {
        let long: Vec<&str> =
            include_str!("help.txt").lines().filter(|line| line.len() > 80).collect();
        assert!(long.is_empty(), "{long:?}");
    }
}
