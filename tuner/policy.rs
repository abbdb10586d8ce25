// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which policy proposes: takes its name and, for the learned one, a model file of the user's own; gives the policy or what is wrong with the file.

use anyhow::Context;
use keepahead_core::policy::Policy;
use keepahead_core::settings::PolicyName;
use keepahead_policies::learned::Learned;
use keepahead_policies::model::LARGEST;
use keepahead_policies::rules::Rules;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The policy of this name. `model`: what `keepahead train --out` has written, in place of the model that ships.
///
/// # Errors
/// The file cannot be read, is damaged, or is of another version; [`Rules`] is what an agent goes on with.
pub fn load(name: PolicyName, model: Option<&Path>) -> anyhow::Result<Box<dyn Policy + Send + Sync>> {
    Ok(match (name, model) {
        (PolicyName::Rules, _) => Box::new(Rules),
        (PolicyName::Learned, None) => Box::new(Learned::shipped()?),
        (PolicyName::Learned, Some(path)) => {
            let file = read(path).with_context(|| format!("model {}", path.display()))?;
            Box::new(Learned::from_bytes(&file).with_context(|| format!("model {}", path.display()))?)
        }
    })
}

/// No more than a model has: whatever the path names, it is refused before it fills the memory.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = Vec::new();
    File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_the_users_own_is_read_and_anything_else_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.model");
        let refused = || format!("{:#}", load(PolicyName::Learned, Some(&path)).err().unwrap());
        assert!(refused().contains("my.model: No such file"), "{}", refused());
        let shipped = Learned::shipped().unwrap().model().to_bytes().unwrap();
        std::fs::write(&path, &shipped).unwrap();
        assert_eq!(load(PolicyName::Learned, Some(&path)).unwrap().name(), "learned-1");
        std::fs::write(&path, &shipped[..shipped.len() - 9]).unwrap();
        assert!(refused().contains("my.model: the model file is damaged"), "{}", refused());
        let endless = format!("{:#}", load(PolicyName::Learned, Some(Path::new("/dev/zero"))).err().unwrap());
        assert!(endless.contains("is it a model of keepahead?"), "{endless}");
        assert_eq!(load(PolicyName::Rules, Some(&path)).unwrap().name(), "rules-1");
    }
}
