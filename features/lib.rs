//! Feature sets for [`asof`]: one folder per published version, its SQL beside its Rust.
//! A published version never changes: `published.lock` holds its fingerprint, and a test compares.

pub mod flights_v1;
pub mod flights_v2;
pub mod taxi_v1;
pub mod taxi_v2;
pub mod zone_demand_v1;

pub use flights_v1::flights_v1;
pub use flights_v2::flights_v2;
pub use taxi_v1::taxi_v1;
pub use taxi_v2::taxi_v2;
pub use zone_demand_v1::zone_demand_v1;

#[cfg(test)]
mod tests {
    use asof::FeatureSet;

    /// I4: a published version never changes. After a deliberate change make a new version instead; a new version is
    /// published by adding the line that this test prints.
    #[test]
    fn published_versions_have_not_changed() {
        let published = include_str!("published.lock");
        let sets: Vec<FeatureSet> = [super::taxi_v1, super::zone_demand_v1, super::flights_v1, super::taxi_v2, super::flights_v2]
            .map(|set| set().unwrap())
            .into();
        let expected: Vec<String> = sets.iter().map(|set| format!("{} {}", set.name(), set.fingerprint().id)).collect();
        let found: Vec<&str> = published.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(found, expected, "published.lock should hold:\n{}", expected.join("\n"));
    }
}
