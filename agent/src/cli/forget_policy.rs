//! `lifeboat forget` without snapshots: what no rule keeps is forgotten, at each destination by its own policy.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::open_each::{Opened, is_chosen, open_each};
use super::session::{Session, Target};
use super::text::{self, Align, Table, count, not_empty};
use super::{EXIT_INCOMPLETE, destinations};
use crate::repository::Repository;
use crate::retention::candidate::what_of;
use crate::retention::{Decision, GroupBy, Period, Policies, Policy, Span};
use crate::snapshot::select::Filter;
use crate::snapshot::{History, Snapshot};
use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// What is kept, for this call.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is kept, in place of what the configuration says")]
#[group(id = "keep", multiple = true)]
pub struct KeepArgs {
    /// The newest N, and the newest of each of the last N hours and of the last N days
    #[arg(long, value_name = "N")]
    keep_last: Option<u64>,
    /// All that are not older, before the newest, than 7d, 36h, 2w, 3m (months) or 1y
    #[arg(long, value_name = "TIME")]
    keep_within: Option<Span>,
    /// The newest of each of the last N hours that have any
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u64>,
    /// The newest of each of the last N days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u64>,
    /// The newest of each of the last N weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u64>,
    /// The newest of each of the last N months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u64>,
    /// The newest of each of the last N years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u64>,
    /// Those with this tag; may be repeated
    #[arg(long, value_name = "TAG", value_parser = not_empty)]
    keep_tag: Vec<String>,
    /// So many of a class, as hourly=24; may be repeated
    #[arg(long, value_name = "CLASS=N", value_parser = class_count)]
    keep_class: Vec<(String, u64)>,
    /// Which snapshots compete: those of equal host, source (its paths if it has no name), paths, class; or none
    #[arg(long, value_name = "WHAT", default_value = "host,source")]
    group_by: GroupBy,
}

fn class_count(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("{text:?}: write a class and a number, as hourly=24");
    let (class, number) = text.rsplit_once('=').ok_or_else(wrong)?;
    let number = number.trim().parse().map_err(|_| wrong())?;
    if class.trim().is_empty() { Err(wrong()) } else { Ok((class.trim().to_owned(), number)) }
}

impl KeepArgs {
    /// The policy that they mean; `None` if none was given.
    fn policy(&self) -> Option<Policy> {
        let periods = Period::counts([
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ]);
        let is_given = self.keep_last.is_some()
            || self.keep_within.is_some()
            || !periods.is_empty()
            || !self.keep_tag.is_empty()
            || !self.keep_class.is_empty();
        is_given.then(|| Policy {
            last: self.keep_last.unwrap_or_default(),
            within: self.keep_within,
            periods,
            tags: self.keep_tag.clone(),
            classes: self.keep_class.iter().cloned().collect(),
            other_classes: 0,
        })
    }

    fn policies(&self, session: &Session, target: &Target) -> Option<Policies> {
        match self.policy() {
            Some(policy) => Some(Policies::of(policy)),
            None => session.settings.retention.policies(&target.name),
        }
    }
}

/// Decides for every destination that is meant, shows it, and forgets.
///
/// # Errors
/// `Usage` where nothing says what is kept; errors of the only destination. What fails at one of several is printed.
pub fn run(
    session: &Session,
    keep: &KeepArgs,
    filter: &Filter,
    dry_run: bool,
    force: bool,
    prunes: bool,
) -> Result<ExitCode> {
    let targets = destinations::all(session)?;
    let mut wanted: Vec<(String, Option<Policies>)> = Vec::new();
    for target in &targets {
        if is_chosen(session, target)? {
            let policies = keep.policies(session, target);
            policies.as_ref().map_or(Ok(()), Policies::check)?;
            wanted.push((target.name.clone(), policies));
        }
    }
    if wanted.iter().all(|(_, policies)| policies.is_none()) {
        return Err(no_policy());
    }
    let is_only = wanted.len() == 1;
    let work = Work { session, keep, filter, dry_run, force, prunes };
    let mut failed = 0;
    // The others are asked for pins, too.
    for Opened { target, found } in open_each(session, targets)? {
        let Some((_, policies)) = wanted.iter().find(|(name, _)| *name == target.name) else { continue };
        let Some(policies) = policies else {
            session.output.notice(format_args!(
                "nothing says what is kept at {}: nothing is forgotten there",
                target.name
            ));
            continue;
        };
        match found.and_then(|(repository, history)| work.at(&target, &repository, &history, policies)) {
            Ok(()) => {}
            Err(e) if e.kind() == Kind::Interrupted || is_only => return Err(e),
            Err(e) => {
                let hint = e.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
                session.output.warning(format_args!("at {} nothing was forgotten: {e}{hint}", target.name));
                failed += 1;
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

fn no_policy() -> Error {
    Error::usage("no snapshot is named, and nothing says what is to be kept").with_hint(
        "Name snapshots, say what to keep (such as --keep-daily 7 --keep-weekly 4), set LIFEBOAT_KEEP_WITHIN_DAYS, or write [retention] into the \
         configuration; config.example.toml shows how. Add --dry-run to see what would be forgotten.",
    )
}

struct Work<'a> {
    session: &'a Session,
    keep: &'a KeepArgs,
    filter: &'a Filter,
    dry_run: bool,
    force: bool,
    /// Space is freed next.
    prunes: bool,
}

impl Work<'_> {
    fn at(
        &self,
        target: &Target,
        repository: &Repository,
        history: &History,
        policies: &Policies,
    ) -> Result<()> {
        if !self.force {
            repository.require_pins(history)?;
        }
        let zone = self.session.settings.retention.zone;
        let wanted = |snapshot: &Snapshot| self.filter.matches(snapshot);
        let decided =
            history.decide(policies, self.keep.group_by, wanted, self.session.settings.clock.now(), zone)?;
        let doomed: Vec<&Snapshot> =
            decided.iter().filter(|(_, decision)| !decision.keep).map(|(snapshot, _)| *snapshot).collect();
        if !self.dry_run {
            repository.forget(&doomed, &self.session.settings.host)?;
        }
        self.report(target, &decided, doomed.len())
    }

    fn report(&self, target: &Target, decided: &[(&Snapshot, Decision)], forgotten: usize) -> Result<()> {
        let output = &self.session.output;
        let kept = decided.len() - forgotten;
        if output.json() {
            for (snapshot, decision) in decided {
                output.object("decision", &self.object(target, snapshot, decision))?;
            }
            let summary = json!({ "destination": target.name, "kept": kept, "forgotten": forgotten, "dry_run": self.dry_run });
            return output.object("summary", &summary);
        }
        for (snapshot, _) in
            decided.iter().filter(|(_, d)| d.reasons.contains(&crate::retention::Reason::Future))
        {
            output.warning(format_args!(
                "snapshot {} is dated in the future ({}): it is kept, and takes nobody's place. Look at the clock of {}",
                snapshot.short_id(),
                text::local_time(&snapshot.manifest.time),
                path_text::display(snapshot.manifest.host.as_bytes())
            ));
        }
        let shown = |decision: &Decision| self.dry_run || output.verbose() > 0 || !decision.keep;
        if !output.quiet() && decided.iter().any(|(_, decision)| shown(decision)) {
            let shown = decided.iter().filter(|(_, decision)| shown(decision));
            for line in table(shown, self.dry_run).lines() {
                output.line(line)?;
            }
        }
        let snapshots = |number: usize| count(number as u64, "snapshot", "snapshots");
        let name = &target.name;
        match (self.dry_run, forgotten) {
            (true, _) => output.line(format_args!(
                "{name}: {} would be forgotten, {kept} kept. Nothing was changed.",
                snapshots(forgotten)
            )),
            (false, 0) => output.line(format_args!("{name}: {} kept, none forgotten.", snapshots(kept))),
            (false, _) => {
                output.line(format_args!("{name}: {} forgotten, {kept} kept.", snapshots(forgotten)))?;
                if !self.prunes {
                    output.say("Their space comes free with `lifeboat prune`.");
                }
                Ok(())
            }
        }
    }

    fn object(&self, target: &Target, snapshot: &Snapshot, decision: &Decision) -> serde_json::Value {
        let manifest = &snapshot.manifest;
        json!({
            "destination": target.name,
            "id": snapshot.id.to_string(),
            "short_id": snapshot.short_id(),
            "time": text::json_time(&manifest.time),
            "host": manifest.host,
            "source": manifest.source,
            "paths": manifest.paths,
            "class": manifest.class,
            "tags": snapshot.tags,
            "pinned": snapshot.pinned,
            "keep": decision.keep,
            "reasons": decision.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "dry_run": self.dry_run,
        })
    }
}

fn table<'d>(decided: impl Iterator<Item = &'d (&'d Snapshot, Decision)>, dry_run: bool) -> Table {
    let titles = ["Id", "Time", "Host", "Source", "Class", "", "Reasons"];
    let mut table = Table::new(&titles.map(|title| (title, Align::Left)));
    for (snapshot, decision) in decided {
        let manifest = &snapshot.manifest;
        let fate = match (decision.keep, dry_run) {
            (true, _) => "keep",
            (false, true) => "forget",
            (false, false) => "forgot",
        };
        table.row([
            snapshot.short_id(),
            text::local_time(&manifest.time),
            path_text::display(manifest.host.as_bytes()),
            what_of(snapshot),
            path_text::display(manifest.class.as_bytes()),
            fate.to_owned(),
            decision.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_with_their_counts() {
        assert_eq!(class_count("on-change = 5"), Ok(("on-change".to_owned(), 5)));
        for wrong in ["hourly", "hourly=", "=3", "hourly=-1", ""] {
            assert!(class_count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_given_is_all_that_counts() {
        assert_eq!(KeepArgs::default().policy(), None);
        let given = KeepArgs { keep_daily: Some(7), ..KeepArgs::default() }.policy().unwrap();
        assert_eq!(given, Policy { periods: [(Period::Day, 7)].into(), ..Policy::default() });
        assert!(KeepArgs { keep_last: Some(0), ..KeepArgs::default() }.policy().unwrap().check().is_err());
    }
}
