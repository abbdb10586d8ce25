// SPDX-License-Identifier: MIT OR Apache-2.0
//! `record ext4|xfs FIRST_SEED COUNT DIRECTORY`: records random scripts.
use keepahead::validate::Session;
use keepahead_sim::script::{Script, random::Options};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let fs = args[1].parse().map_err(|()| anyhow::anyhow!("ext4 or xfs"))?;
    let (first, count): (u64, u64) = (args[2].parse()?, args[3].parse()?);
    let mut session = Session::open(fs, 400)?;
    std::fs::create_dir_all(&args[4])?;
    let mut unstable = 0;
    for seed in first..first + count {
        let script = Script::random(seed, &Options::default());
        let one = session.record(&script)?;
        let two = session.record(&script)?;
        if one != two {
            unstable += 1;
            let at = keepahead_sim::script::compare(&one.events(), &two.events());
            println!("seed {seed}: differs from itself\n{}", at.map(|m| m.to_string()).unwrap_or_default());
            std::fs::write(format!("{}/{seed}.unstable", args[4]), one.to_string())?;
            continue;
        }
        std::fs::write(format!("{}/{seed}.script", args[4]), one.to_string())?;
    }
    println!("{unstable} of {count} unstable");
    Ok(())
}
