//! The growing edge of the tree (RFC 6962), in tiles of 256 hashes (c2sp.org/tlog-tiles). Pure: full
//! tiles go out to be stored, the rest is in memory.

use tlog_tiles::{Error, Hash, HashReader, Tile, node_hash, split_stored_hash_index, tree_hash};

/// Hashes of a full tile; two to the [`HEIGHT`].
pub(crate) const WIDTH: usize = 256;
/// Levels of the tree that a tile spans.
pub(crate) const HEIGHT: u8 = 8;

/// A tile that will not change any more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FullTile {
    pub(crate) level: u8,
    pub(crate) number: u64,
    /// 256 hashes, one after the other.
    pub(crate) hashes: Vec<u8>,
    /// Their root: a hash of the level above.
    pub(crate) root: Hash,
}

/// The right edge of a tree.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Edge {
    size: u64,
    /// The hashes of each level's last tile, which is never full.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of a tree that has only full tiles at its lowest level; `levels` are the hashes above
    /// it that are in no full tile, lowest first.
    pub(crate) fn of_full_tiles(tiles: u64, above: Vec<Vec<Hash>>) -> Self {
        let mut levels = vec![Vec::new()];
        levels.extend(above);
        Self {
            size: tiles * WIDTH as u64,
            levels,
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; tells which tiles became full by it, lowest first.
    pub(crate) fn push(&mut self, leaf: Hash) -> Vec<FullTile> {
        let mut full = Vec::new();
        let (mut level, mut hash) = (0_u8, leaf);
        self.size += 1;
        loop {
            if self.levels.len() == usize::from(level) {
                self.levels.push(Vec::new());
            }
            let Some(tile) = self.levels.get_mut(usize::from(level)) else {
                return full;
            };
            tile.push(hash);
            if tile.len() < WIDTH {
                return full;
            }
            let hashes: Vec<u8> = tile.drain(..).flat_map(|hash| hash.0).collect();
            hash = Tile::subtree_hash(&hashes);
            full.push(FullTile {
                level,
                number: (self.size >> (u32::from(HEIGHT) * (u32::from(level) + 1))) - 1,
                hashes,
                root: hash,
            });
            level += 1;
        }
    }

    /// The hashes of a tile that is not full.
    pub(crate) fn partial(&self, level: u8, number: u64) -> Option<&[Hash]> {
        let full = self.size >> (u32::from(HEIGHT) * (u32::from(level) + 1));
        let last = self.levels.get(usize::from(level))?;
        (number == full && !last.is_empty()).then_some(last)
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// Never, as long as the edge is whole.
    pub(crate) fn root(&self) -> Result<Hash, Error> {
        let none = |_, _| Err(Error::InvalidTile);
        tree_hash(
            self.size,
            &Hashes {
                edge: self,
                full: none,
            },
        )
    }
}

/// The hashes of a tree, by their place: those of full tiles from where they are stored.
pub(crate) struct Hashes<'a, F> {
    pub(crate) edge: &'a Edge,
    /// The hashes of a full tile, by level and number.
    pub(crate) full: F,
}

impl<F: Fn(u8, u64) -> Result<Vec<u8>, Error>> HashReader for Hashes<'_, F> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        indexes.iter().map(|index| self.hash(*index)).collect()
    }
}

impl<F: Fn(u8, u64) -> Result<Vec<u8>, Error>> Hashes<'_, F> {
    fn hash(&self, index: u64) -> Result<Hash, Error> {
        let (height, number) = split_stored_hash_index(index);
        let (level, within) = (height / HEIGHT, height % HEIGHT);
        let first = number << within;
        let (tile, from) = (first / WIDTH as u64, (first % WIDTH as u64) as usize);
        let count = 1_usize << within;
        let hashes = match self.edge.partial(level, tile) {
            Some(hashes) => hashes.get(from..from + count).map(root_of),
            None => {
                let stored = (self.full)(level, tile)?;
                let bytes = stored.get(from * 32..(from + count) * 32);
                bytes.map(Tile::subtree_hash)
            }
        };
        hashes.ok_or(Error::IndexesNotInTree)
    }
}

/// Hashes from wherever.
pub(crate) struct Reading<'a>(pub(crate) &'a dyn HashReader);

impl HashReader for Reading<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        self.0.read_hashes(indexes)
    }
}

/// The root of hashes whose number is a power of two.
fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            node_hash(root_of(left), root_of(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tlog_tiles::{EMPTY_HASH, record_hash};

    use super::*;

    /// RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_HASH,
            [one] => *one,
            many => {
                let half = many.len().next_power_of_two() / 2;
                node_hash(naive(&many[..half]), naive(&many[half..]))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count)
            .map(|it| record_hash(&it.to_be_bytes()))
            .collect()
    }

    #[test]
    fn the_vectors_of_rfc_6962_hold() {
        // Those that the implementations of Certificate Transparency share.
        let entries: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut edge = Edge::default();
        for (entry, root) in entries.iter().zip(roots) {
            edge.push(record_hash(entry));
            let found: String = edge
                .root()
                .unwrap()
                .0
                .iter()
                .map(|it| format!("{it:02x}"))
                .collect();
            assert_eq!(found, root, "{} entries", edge.size());
        }
    }

    #[test]
    fn tiles_become_full_one_level_after_the_other() {
        let all = leaves(256 * 256 + 300);
        let mut edge = Edge::default();
        let mut full: Vec<FullTile> = all.iter().flat_map(|leaf| edge.push(*leaf)).collect();
        let above: Vec<_> = full.iter().filter(|tile| tile.level == 1).collect();
        assert_eq!(above.len(), 1);
        assert_eq!(
            (above[0].number, above[0].root),
            (0, naive(&all[..256 * 256]))
        );
        full.retain(|tile| tile.level == 0);
        assert_eq!(full.len(), 257);
        for (number, tile) in full.iter().enumerate() {
            assert_eq!(tile.number, number as u64);
            assert_eq!(tile.root, naive(&all[number * 256..(number + 1) * 256]));
        }
        assert_eq!(edge.root().unwrap(), naive(&all));
    }

    proptest! {
        #[test]
        fn the_root_is_that_of_the_standard(count in 0_u64..1_500) {
            let all = leaves(count);
            let mut edge = Edge::default();
            for leaf in &all {
                edge.push(*leaf);
            }
            prop_assert_eq!(edge.root().unwrap(), naive(&all));
        }
    }
}
