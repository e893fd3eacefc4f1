//! Numbers of the places of a block, as narrow as they allow: most messages of a block are alike.
//!
//! A place that was never set has any value.

/// See the module.
#[derive(Debug, Clone, Default)]
pub enum Column {
    /// Nothing was set.
    #[default]
    Empty,
    /// All that were set are the same.
    Same(u64),
    /// How far each lies from `base`; those behind the end are `base`.
    Near { base: u64, steps: Vec<i32> },
    /// Each as it is; those behind the end are `base`.
    Far { base: u64, values: Vec<u64> },
}

impl Column {
    /// The number at `place`.
    pub fn get(&self, place: usize) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Same(value) => *value,
            Self::Near { base, steps } => steps.get(place).map_or(*base, |step| apart(*base, *step)),
            Self::Far { base, values } => values.get(place).copied().unwrap_or(*base),
        }
    }

    /// Changes the number at `place`; all others stay.
    pub fn set(&mut self, place: usize, value: u64) {
        match self {
            Self::Empty => *self = Self::Same(value),
            Self::Same(same) if *same == value => {}
            Self::Same(base) => {
                *self = Self::Near { base: *base, steps: Vec::new() };
                self.set(place, value);
            }
            Self::Near { base, steps } => match step(*base, value) {
                Some(step) => put(steps, place, step, 0),
                None => {
                    let values = steps.iter().map(|step| apart(*base, *step)).collect();
                    *self = Self::Far { base: *base, values };
                    self.set(place, value);
                }
            },
            Self::Far { base, values } => put(values, place, value, *base),
        }
    }
}

fn apart(base: u64, step: i32) -> u64 {
    base.wrapping_add_signed(i64::from(step))
}

fn step(base: u64, value: u64) -> Option<i32> {
    i32::try_from(value.wrapping_sub(base) as i64).ok()
}

/// Sets one item of a list that grows to hold it.
fn put<T: Copy>(list: &mut Vec<T>, place: usize, item: T, fill: T) {
    if list.len() <= place {
        list.resize(place, fill);
        list.push(item);
    } else {
        list[place] = item;
    }
}

/// Ids and digests, which have nothing in common; 0 where none was set.
#[derive(Debug, Clone, Default)]
pub struct WideColumn(Vec<u128>);

impl WideColumn {
    /// The number at `place`.
    pub fn get(&self, place: usize) -> u128 {
        self.0.get(place).copied().unwrap_or(0)
    }

    /// Changes the number at `place`; all others stay.
    pub fn set(&mut self, place: usize, value: u128) {
        if self.get(place) != value {
            put(&mut self.0, place, value, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..3, (1u64 << 40)..(1 << 40) + 9, Just(u64::MAX), (1u64 << 31) - 2..(1 << 31) + 2, any::<u64>()]
    }

    proptest! {
        #[test]
        fn a_column_gives_back_what_was_set_last(sets in prop::collection::vec((0usize..20, number()), 0..60)) {
            let (mut column, mut wide, mut model) = (Column::default(), WideColumn::default(), [None; 20]);
            for (place, value) in sets {
                column.set(place, value);
                wide.set(place, u128::from(value) << 3);
                model[place] = Some(value);
                for (place, value) in model.iter().enumerate() {
                    if let Some(value) = value {
                        prop_assert_eq!((column.get(place), wide.get(place)), (*value, u128::from(*value) << 3));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_alike_takes_no_room() {
        let mut column = Column::default();
        (0..512).for_each(|place| column.set(place, 7));
        assert!(matches!(column, Column::Same(7)));
        (0..512).for_each(|place| column.set(place, 7 + place as u64 * 300));
        assert!(matches!(column, Column::Near { .. }));
        column.set(9, u64::MAX / 2);
        assert!(matches!(column, Column::Far { .. }));
    }
}
