//! Finds the runs that have waited longest, in a list that is given newest first and may hold a million.
//!
//! Ids of runs begin with their time, and the list is in their order. So the end of the list is looked for by halving
//! the range of ids, a few pages in each look, and what was found is remembered for the next one.

use laneway_contract::{ApiError, RunId, RunPage, RunView};

/// Pages of one look. Halving 48 bits of milliseconds takes two or three looks.
const PAGES: usize = 16;

/// Where the end of the list is.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    /// There was nothing below this id.
    below: u128,
    /// There was more below this id; none: the list is read from its start.
    above: Option<u128>,
    /// The page below this id reached the end.
    found: Option<u128>,
}

impl Oldest {
    /// The last runs of the list, or the lowest that were seen when it takes more than [`PAGES`] pages to find the end.
    /// `list` gives the page below an id.
    pub(super) async fn find(
        &mut self,
        mut list: impl AsyncFnMut(Option<RunId>) -> Result<RunPage, ApiError>,
    ) -> Result<Vec<RunView>, ApiError> {
        let mut lowest = Vec::new();
        for _ in 0..PAGES {
            let cut = self.found.take().or_else(|| Some(middle(self.below, self.above?)));
            let page = list(cut.map(run_id)).await?;
            match (page.cursor, cut) {
                (None, _) if !page.runs.is_empty() => {
                    *self = Self { below: self.below, above: None, found: cut };
                    return Ok(page.runs);
                }
                (None, None) => {
                    *self = Self::default();
                    return Ok(Vec::new());
                }
                (None, Some(cut)) => {
                    self.below = cut;
                    // What was below has ended meanwhile.
                    self.above = self.above.filter(|above| *above > cut + 1);
                }
                (Some(cursor), _) => {
                    let above = cursor.uuid().as_u128();
                    self.above = Some(above);
                    // An id that its caller chose, lower than all before.
                    if above <= self.below {
                        self.below = 0;
                    }
                }
            }
            if !page.runs.is_empty() {
                lowest = page.runs;
            }
        }
        Ok(lowest)
    }
}

/// The id in the middle, above `below`, so that the range gets smaller each time.
const fn middle(below: u128, above: u128) -> u128 {
    below + (above - below).div_ceil(2)
}

/// The id with this value.
fn run_id(value: u128) -> RunId {
    let hex = format!("{value:032x}");
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    RunId::parse(&text).unwrap_or_else(|_| unreachable!("32 digits with four hyphens are a UUID"))
}

#[cfg(test)]
mod tests;
