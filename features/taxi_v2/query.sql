-- The trips of `taxi_v1`: those that began in business hours, 9 to 17 inclusive by New York's clocks.
SELECT pickup_at, pickup_zone, trip_distance, total_amount
FROM nyc_taxi
WHERE date_part('hour', arrow_cast(pickup_at, 'Timestamp(Microsecond, Some("America/New_York"))')) BETWEEN 9 AND 17
