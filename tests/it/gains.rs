//! What each feature adds to a backtest.

use asof::backtest::{Backtest, Folds};
use chrono::NaiveDate;

use crate::{parity::store_of_a_year, support::temp_dir};

#[tokio::test(flavor = "multi_thread")]
async fn a_gain_is_what_a_backtest_without_the_feature_loses() {
    let (data, root) = (temp_dir(), temp_dir());
    let store = store_of_a_year(root.path(), data.path(), 150).await;
    for set in [asof_features::zone_demand_v1(), asof_features::taxi_v2()] {
        store.register(set.unwrap()).unwrap();
    }
    let month = |month| NaiveDate::from_ymd_opt(2014, month, 1).unwrap();
    let folds = || Folds::monthly(month(8), month(10), "America/New_York".parse().unwrap()).unwrap();
    let backtest = || Backtest::new("taxi_v2", "total_amount", folds()).without(["trips_1h"]);
    let gains = store.feature_gains(&backtest()).await.unwrap();
    assert_eq!(gains.all, store.backtest(&backtest()).await.unwrap());
    let mut expected = asof_features::taxi_v2().unwrap().features();
    expected.retain(|feature| feature != "trips_1h" && feature != "total_amount");
    assert_eq!(gains.without.iter().map(|(feature, _)| feature.clone()).collect::<Vec<_>>(), expected);
    for feature in ["clipped_trip_distance", "pickup_at_hour_sin"] {
        let without = store.backtest(&backtest().without([feature])).await.unwrap();
        assert_eq!(&gains.without.iter().find(|(name, _)| name == feature).unwrap().1, &without, "{feature}");
        let (gain, all, without) = (gains.gain(feature).unwrap(), gains.all.mean().unwrap(), without.mean().unwrap());
        assert_eq!((gain.r2, gain.mae), (all.r2 - without.r2, without.mae - all.mae));
    }
    // The fare is made of the distance, and no other feature tells it.
    assert!(gains.gain("clipped_trip_distance").unwrap().r2 > 0.3, "{gains}");
    assert_eq!(gains.gain("trips_1h"), None);
    assert_eq!(gains.to_string().lines().count(), expected.len() + 2, "{gains}");

    // Without its only feature, a set is as good as the mean of the labels that were seen.
    let gains = store.feature_gains(&Backtest::new("taxi_v1", "total_amount", folds())).await.unwrap();
    let (_, without) = gains.without.first().unwrap();
    let fold = without.folds.first().unwrap();
    assert_eq!(fold.linear.as_ref().unwrap().slopes, [0.0; 0]);
    assert!(fold.metrics.unwrap().r2 <= 0.0 && gains.gain("trip_distance").unwrap().r2 > 0.5, "{gains}");
}
