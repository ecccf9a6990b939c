-- The flights that left, by their scheduled departure. The label is known when they leave.
SELECT scheduled_at, departed_at, origin, carrier, tailnum,
       CASE WHEN dep_delay >= 15 THEN 1.0 ELSE 0.0 END AS late
FROM flights
WHERE dep_delay IS NOT NULL
