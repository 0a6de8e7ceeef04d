//! Values under small numbers that are used again.

use std::ops::{Index, IndexMut};

/// Values under numbers; a number is free again once its value is removed.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.values[id as usize] = Some(value);
            return id;
        }
        self.values.push(Some(value));
        self.values.len() as u32 - 1
    }

    pub(crate) fn remove(&mut self, id: u32) -> T {
        self.free.push(id);
        self.values[id as usize].take().unwrap_or_else(|| unreachable!("an id is removed once"))
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.values.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.values.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        (0..self.values.len() as u32).filter(|id| self.values[*id as usize].is_some())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        self.values[id as usize].as_ref().unwrap_or_else(|| unreachable!("an id is of a value that is there"))
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        self.values[id as usize].as_mut().unwrap_or_else(|| unreachable!("an id is of a value that is there"))
    }
}
