//! Lists of which only so much is read: whoever writes them could fill the memory with them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

/// A list; nothing if it is longer than that.
pub(super) struct AtMost<const COUNT: usize, Item>(pub(super) Option<Vec<Item>>);

/// Whether a list, or null, has anything in it.
#[derive(Clone, Copy, Default)]
pub(super) struct IsAny(pub(super) bool);

impl<'de, const COUNT: usize, Item: Deserialize<'de>> Deserialize<'de> for AtMost<COUNT, Item> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<const COUNT: usize, Item>(PhantomData<Item>);

        impl<'de, const COUNT: usize, Item: Deserialize<'de>> Visitor<'de> for List<COUNT, Item> {
            type Value = Option<Vec<Item>>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < COUNT {
                    let Some(item) = list.next_element()? else { return Ok(Some(items)) };
                    items.push(item);
                }
                Ok((!passes_over_any(list)?).then_some(items))
            }
        }

        deserializer.deserialize_seq(List::<COUNT, Item>(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for IsAny {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = bool;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list, or null")
            }

            fn visit_unit<E>(self) -> Result<bool, E> {
                Ok(false)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<bool, A::Error> {
                passes_over_any(list)
            }
        }

        deserializer.deserialize_any(List).map(Self)
    }
}

/// Reads what is left of a list, and says whether there was anything.
fn passes_over_any<'de, A: SeqAccess<'de>>(mut list: A) -> Result<bool, A::Error> {
    let mut is_any = false;
    while list.next_element::<IgnoredAny>()?.is_some() {
        is_any = true;
    }
    Ok(is_any)
}
