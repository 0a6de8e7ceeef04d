//! No one leads with a wrong clock: before a leader begins or begins again, its wall clock is compared with the server's.

use laneway_contract::Timestamp;

use crate::clock::{BootMillis, Now};

/// A wall clock further off the server's than this, in milliseconds, does not lead.
pub(crate) const MAX_CLOCK_OFFSET_MS: i64 = 60_000;

/// How long an answer counts, in milliseconds, unless the wall clock is set meanwhile.
const GOOD_FOR_MS: u64 = 2_000;

/// How long to wait after a failure before asking again, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;

/// What the server's information about the stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's wall clock when it answered.
    pub time: Timestamp,
    /// The last sequence that it knew; it may be behind.
    pub last: u64,
}

#[derive(Debug, Default)]
pub(crate) enum ClockCheck {
    #[default]
    Unasked,
    Asked,
    Good {
        until: BootMillis,
        wall_ahead_of_boot: i64,
    },
    Off {
        until: BootMillis,
    },
}

/// What may be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// The clock is right.
    Granted,
    /// The server is to be asked.
    Ask,
    /// An answer is awaited, or the last was bad.
    Wait,
}

impl ClockCheck {
    /// Whether the wall clock is known to be right. Asks at most once until answered.
    pub(crate) fn permit(&mut self, now: Now) -> Permit {
        match *self {
            Self::Asked => return Permit::Wait,
            Self::Off { until } if now.boot < until => return Permit::Wait,
            Self::Good { until, wall_ahead_of_boot }
                if now.boot < until && (ahead(now) - wall_ahead_of_boot).abs() <= 1_000 =>
            {
                return Permit::Granted;
            }
            Self::Unasked | Self::Off { .. } | Self::Good { .. } => {}
        }
        *self = Self::Asked;
        Permit::Ask
    }

    /// Takes the answer, none if there was none in time. Gives the milliseconds by which the wall clock is ahead of the
    /// server's when that is too many.
    pub(crate) fn answered(&mut self, server: Option<Timestamp>, now: Now) -> Result<(), i64> {
        let offset = server.map(|time| now.wall.millis().saturating_sub(time.millis()));
        let good = offset.is_some_and(|offset| offset.abs() <= MAX_CLOCK_OFFSET_MS);
        *self = if good {
            Self::Good { until: now.boot.plus(GOOD_FOR_MS), wall_ahead_of_boot: ahead(now) }
        } else {
            Self::Off { until: now.boot.plus(ASK_AGAIN_MS) }
        };
        match offset {
            Some(offset) if !good => Err(offset),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn next_wakeup(&self) -> Option<BootMillis> {
        match *self {
            Self::Off { until } => Some(until),
            Self::Unasked | Self::Asked | Self::Good { .. } => None,
        }
    }
}

fn ahead(now: Now) -> i64 {
    now.wall.millis() - now.boot.millis() as i64
}
