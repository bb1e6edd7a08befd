//! The environment: the variable of each option that the command line does not give.

#![forbid(unsafe_code)]

use super::typed::{Given, ONE_A_LINE, PREFIX, Slot, Source, Takes, is_known};
use crate::sys;

/// These two set the same level, so either of them on the command line overrides both variables.
const LEVELS: [&str; 2] = ["quiet", "verbose"];

/// Every variable with our prefix: the rest of its name, and its value.
pub fn variables() -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
    sys::environment(PREFIX.as_bytes())
}

/// Adds the variables of options that are not given. Returns the names of unknown variables, or the
/// mistakes in values that cannot be read at all.
pub fn add(
    options: &mut [(&'static str, &mut dyn Slot)],
    variables: impl Iterator<Item = (&'static [u8], &'static [u8])>,
) -> Result<Vec<&'static str>, Vec<String>> {
    let (mut unknown, mut complaints) = (Vec::new(), Vec::new());
    let level_is_given =
        options.iter().any(|(option, slot)| LEVELS.contains(option) && slot.is_given());
    // An empty variable counts as unset, known or not.
    for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
        let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else {
            let name = String::from_utf8_lossy(name);
            complaints.push(format!("{PREFIX}{name}: its value is not valid UTF-8"));
            continue;
        };
        let is_named = |option: &str| option.to_ascii_uppercase() == name;
        let Some((option, slot)) = options.iter_mut().find(|(option, _)| is_named(option)) else {
            // Kubernetes sets these in every pod if there is a Service called drain-init.
            let of_service = name.starts_with("SERVICE_") || name.starts_with("PORT");
            if !of_service && !is_known(is_named) {
                unknown.push(name);
            }
            continue;
        };
        if slot.is_given() || (level_is_given && LEVELS.contains(option)) {
            continue;
        }
        let takes = slot.takes();
        let mut give = |text| slot.give(Given { option, text, source: Source::Environment });
        match takes {
            Takes::Value => give(value),
            Takes::Values if ONE_A_LINE.contains(option) => {
                value.split('\n').filter(|line| !line.is_empty()).for_each(give);
            }
            Takes::Values => value.split(',').for_each(give),
            Takes::Nothing if value == "1" => give(""),
            Takes::Nothing if value == "0" => {}
            Takes::Nothing => complaints.push(format!("{PREFIX}{name}={value}: write 1 or 0")),
        }
    }
    if complaints.is_empty() { Ok(unknown) } else { Err(complaints) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::typed::{Options, Texts};

    fn with(
        options: &mut Options,
        variables: &[(&'static str, &'static str)],
    ) -> Result<Vec<&'static str>, Vec<String>> {
        let variables = variables.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        add(&mut options.options(), variables)
    }

    fn texts(given: &[Given]) -> Vec<&str> {
        given.iter().map(|given| given.text).collect()
    }

    #[test]
    fn the_command_line_wins() {
        let mut typed = Options::of(&[("delay", "1s"), ("stop_on", "HUP"), ("quiet", "")]);
        let variables = [
            ("DELAY", "9s"),
            ("STOP_ON", "QUIT,USR1"),
            ("MAP_EXIT", "1=2,3=4"),
            ("VERBOSE", "1"),
            ("GRACE", ""),
            ("NO_SUCH", "1"),
            ("delay", "1"),
            ("TIMEOUT", "the probe's"),
        ];
        assert_eq!(with(&mut typed, &variables), Ok(vec!["NO_SUCH", "delay"]));
        assert_eq!(texts(typed.delay.as_slice()), ["1s"]);
        assert_eq!(texts(&typed.stop_on), ["HUP"]);
        assert_eq!(texts(&typed.map_exit), ["1=2", "3=4"]);
        assert!(!typed.verbose && typed.grace.is_none());
    }

    /// A surplus comma is a mistake; an empty line of a YAML block is not.
    #[test]
    fn a_variable_lists_with_commas_or_lines() {
        let mut typed = Options::default();
        let lists = [("STOP_ON", "QUIT,,HUP"), ("ON_DRAIN", "exec:a b,c\n\nexec:d\n")];
        assert_eq!(with(&mut typed, &lists), Ok(vec![]));
        assert_eq!(texts(&typed.stop_on), ["QUIT", "", "HUP"]);
        assert_eq!(texts(&typed.on_drain), ["exec:a b,c", "exec:d"]);
    }

    #[test]
    fn a_switch_is_1_or_0() {
        let mut typed = Options::default();
        assert_eq!(with(&mut typed, &[("GROUP", "1"), ("QUIET", "0")]), Ok(vec![]));
        assert!(typed.group && !typed.quiet);
        let refused = with(&mut Options::default(), &[("GROUP", "yes"), ("QUIET", "2")]);
        let lines = ["DRAIN_INIT_GROUP=yes: write 1 or 0", "DRAIN_INIT_QUIET=2: write 1 or 0"];
        assert_eq!(refused, Err(lines.map(str::to_owned).to_vec()));
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_our_name_is_no_mistake() {
        let set = [("SERVICE_HOST", "10.0.0.1"), ("PORT_80_TCP_ADDR", "10.0.0.1")];
        assert_eq!(with(&mut Options::default(), &set), Ok(vec![]));
    }
}
