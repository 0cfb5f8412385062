//! What must hold before a snapshot is written: a dump that came out empty, or far smaller than the last one, is rarely what was meant.

use crate::fs::size::human;
use crate::snapshot::Snapshot;
use crate::snapshot::manifest::Summary;
use crate::{Error, Result};

/// Limits on what a run has read. What breaks one makes no snapshot; what was stored is kept for the next run.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Guards {
    /// Fewer bytes in all are refused.
    pub bytes_min: Option<u64>,
    /// It may be smaller than the snapshot it is compared with by this share of that at most, from 0 to 1.
    pub shrink_max: Option<f64>,
    /// What was in the last snapshot and is gone, by a pattern or because a directory that was named is empty now, is an error of the snapshot. If not,
    /// it is a warning.
    pub expect_all: bool,
}

/// What to do if it is right that there is less than before.
pub(super) fn acceptance(source: Option<&str>) -> String {
    format!("If it is right, accept it once: lifeboat run {} --accept-shrink", source.unwrap_or("SOURCE"))
}

impl Guards {
    /// Judges a run by its sizes and those of the snapshot it was compared with.
    ///
    /// # Errors
    /// `Failed`, with both sizes and the limit.
    pub(super) fn judge(&self, summary: &Summary, parent: Option<&Snapshot>) -> Result<()> {
        let bytes = summary.bytes_total;
        if let Some(limit) = self.bytes_min.filter(|limit| bytes < *limit) {
            return Err(Error::failed(format_args!(
                "there are only {} to back up, and at least {} are expected: no snapshot was made",
                human(bytes),
                human(limit)
            ))
            .with_hint(
                "Look why there is so little. If that is right, lower `minimum_size` of the source.",
            ));
        }
        let (Some(limit), Some(parent)) = (self.shrink_max, parent) else { return Ok(()) };
        self.judge_shrinking(bytes, parent.manifest.summary.bytes_total, limit).map_err(|e| {
            let hint =
                format!("Look what became of the rest. {}", acceptance(parent.manifest.source.as_deref()));
            e.context(format_args!("compared with snapshot {}", parent.short_id())).with_hint(hint)
        })
    }

    fn judge_shrinking(&self, bytes: u64, before: u64, share_max: f64) -> Result<()> {
        if before == 0 || bytes >= before {
            return Ok(());
        }
        let share = (before - bytes) as f64 / before as f64;
        if share <= share_max {
            return Ok(());
        }
        Err(Error::failed(format_args!(
            "there are {} to back up, {:.0} % less than the {} of last time, and {:.0} % less is the limit: no snapshot was made",
            human(bytes),
            share * 100.0,
            human(before),
            share_max * 100.0
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_is_refused_with_both_sizes() {
        let guards = Guards { bytes_min: Some(2048), shrink_max: Some(0.5), ..Guards::default() };
        let summary = |bytes_total| Summary { bytes_total, ..Summary::default() };
        assert!(guards.judge(&summary(2048), None).is_ok());
        let error = guards.judge(&summary(2047), None).unwrap_err().to_string();
        assert!(error.contains("2.0 KiB") && error.contains("no snapshot"), "{error}");
    }

    #[test]
    fn it_may_shrink_by_the_share_and_not_more() {
        let shrink = |bytes, before, share| Guards::default().judge_shrinking(bytes, before, share);
        assert!(shrink(50, 100, 0.5).is_ok() && shrink(200, 100, 0.0).is_ok() && shrink(0, 0, 0.0).is_ok());
        let error = shrink(49, 100, 0.5).unwrap_err().to_string();
        assert!(error.contains("49 B") && error.contains("100 B") && error.contains("50 %"), "{error}");
        assert!(shrink(99, 100, 0.0).is_err() && shrink(0, 100, 1.0).is_ok());
    }
}
