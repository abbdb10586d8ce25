// SPDX-License-Identifier: MIT OR Apache-2.0
//! Glob patterns over whole names: takes a pattern and a name, gives whether they match. `*` stands for any run of characters
//! (also `/`, because cgroups and identities are full of them), `?` for one; nothing else is special.

/// Whether `pattern` matches the whole of `name`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on from after a mismatch: just past the last star, with the star one character longer.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                retry = Some((p, n));
            }
            Some(&c) if c == '?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after_star, start)) => {
                    (p, n) = (after_star, start + 1);
                    retry = Some((after_star, start + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, name, wanted) in [
            ("*", "", true),
            ("nvme?n1", "nvme0n1", true),
            ("nvme?n1", "nvme0n1p1", false),
            ("btrfs*/srv", "btrfs on /data/srv", true),
            ("*a*b", "aab", true),
            ("*a*b", "aba", false),
            ("", "x", false),
            ("sd[ab]", "sda", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} on {name}");
        }
    }
}
