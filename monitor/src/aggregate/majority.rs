//! Whose most of something is, in constant memory.

/// Vote by vote: right whenever one candidate has more than half of all votes; otherwise one of the candidates.
/// `None` is a candidate too: "could not be learnt".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Majority<U> {
    candidate: Option<U>,
    lead: u64,
}

impl<U: PartialEq> Majority<U> {
    /// One vote.
    pub fn of(candidate: Option<U>) -> Self {
        Self { candidate, lead: 1 }
    }

    pub fn add(&mut self, other: Self) {
        if self.candidate == other.candidate {
            self.lead += other.lead;
        } else if other.lead > self.lead {
            *self = Self { lead: other.lead - self.lead, ..other };
        } else {
            self.lead -= other.lead;
        }
    }

    /// `None` when it could not be learnt, or nothing was counted.
    pub fn winner(&self) -> Option<&U> {
        self.candidate.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_votes_win() {
        let check = |votes: &str, winner: Option<char>| {
            let mut majority = Majority::default();
            for vote in votes.chars() {
                majority.add(Majority::of(Some(vote).filter(|&vote| vote != '?')));
            }
            assert_eq!(majority.winner(), winner.as_ref(), "{votes}");
        };
        check("", None);
        check("a", Some('a'));
        check("aab", Some('a'));
        check("baa", Some('a'));
        check("abaca", Some('a'));
        check("bbaaa", Some('a'));
        check("??a", None);
        check("a?a", Some('a'));
    }
}
