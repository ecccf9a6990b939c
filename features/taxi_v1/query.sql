-- Trips that began in business hours, 9 to 17 inclusive by New York's clocks: from 9:00 to before 18:00.
-- (AT TIME ZONE would do, but goes by way of nanoseconds, which fail on a mistyped year such as 0214.)
SELECT pickup_at, trip_distance, total_amount
FROM nyc_taxi
WHERE date_part('hour', arrow_cast(pickup_at, 'Timestamp(Microsecond, Some("America/New_York"))')) BETWEEN 9 AND 17
