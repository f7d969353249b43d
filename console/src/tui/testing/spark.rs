//! A row of bars, the newest at its right end.

/// What was lost.
const LOST: char = 'x';
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 6] = ['_', '.', '-', '=', '*', '#'];

/// Times, in bars from the shortest to the longest of those that are seen; where nearly all are alike, small differences
/// stay small.
pub fn times(values: impl DoubleEndedIterator<Item = Option<u32>>, width: usize, bars: bool) -> String {
    let seen = newest(values.map(|value| value.map(f64::from)), width);
    let least = seen.iter().flatten().copied().fold(f64::MAX, f64::min);
    let most = seen.iter().flatten().copied().fold(0.0, f64::max);
    // Below a quarter of a millisecond, or twice the least, nothing is worth a look.
    draw(&seen, least, most.max(least * 2.0).max(least + 250.0), bars)
}

/// Rates, in bars from nothing to the highest that is seen.
pub fn rates(values: impl DoubleEndedIterator<Item = f64>, width: usize, bars: bool) -> String {
    let seen = newest(values.map(Some), width);
    let most = seen.iter().flatten().copied().fold(1.0, f64::max);
    draw(&seen, 0.0, most, bars)
}

fn newest(values: impl DoubleEndedIterator<Item = Option<f64>>, width: usize) -> Vec<Option<f64>> {
    let mut seen: Vec<Option<f64>> = values.rev().take(width).collect();
    seen.reverse();
    seen
}

fn draw(seen: &[Option<f64>], least: f64, most: f64, bars: bool) -> String {
    let levels: &[char] = if bars { &BARS } else { &ASCII };
    let bar = |value: f64| {
        let share = ((value - least) / (most - least)).clamp(0.0, 1.0);
        // A share of one is the highest bar. A float that is no number becomes 0.
        let level = (share * levels.len() as f64) as usize;
        levels[level.min(levels.len() - 1)]
    };
    seen.iter().map(|value| value.map_or(LOST, bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_spike_stands_out_and_what_was_lost_is_marked() {
        let values = [500, 520, 510, 9000].map(Some).into_iter().chain([None, Some(500)]);
        assert_eq!(times(values.clone(), 80, true), "▁▁▁█x▁");
        assert_eq!(times(values.clone(), 80, false), "___#x_");
        assert_eq!(times(values, 2, false), "x_");
        assert_eq!(times(std::iter::repeat_n(Some(0), 3), 9, true), "▁▁▁");
    }

    #[test]
    fn rates_begin_at_nothing() {
        assert_eq!(rates([0.0, 50.0, 100.0].into_iter(), 80, true), "▁▅█");
        assert_eq!(rates([0.0, 0.0].into_iter(), 80, false), "__");
    }

    proptest! {
        #[test]
        fn any_values_make_a_row_that_fits(
            values in prop::collection::vec(any::<Option<u32>>(), 0..50), rest in prop::collection::vec(any::<f64>(), 0..50),
            width in 0_usize..40,
        ) {
            prop_assert_eq!(times(values.iter().copied(), width, true).chars().count(), values.len().min(width));
            prop_assert_eq!(rates(rest.iter().copied(), width, false).chars().count(), rest.len().min(width));
        }
    }
}
