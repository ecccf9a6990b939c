//! The service over real HTTP, as another process, while a trainer in a third one publishes.
//! What it should answer is computed here, by the library, from the same root.

#![allow(clippy::disallowed_methods, reason = "tests wait for processes by the clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use asof::{
    AsOf, FeatureStore, Materialization, StoreOptions, Value,
    models::NewModel,
    online::{FeatureRow, Online},
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_online_serving");
const RIDES: &str = "taxi_v2";
const ZONES: &str = "zone_demand_v1";
const DAYS: [&str; 4] = ["2014-06-01", "2014-06-08", "2014-06-15", "2014-06-22"];
/// So long that nothing is refreshed unless it is asked for.
const NEVER: &str = "100000";

// --- the root, the trainer and the service -----------------------------------------------------------------------------

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> PathBuf {
        // Below the temporary directory, so that it can be moved away.
        self.0.path().join("root")
    }

    fn train(&self, as_of: &str) -> Child {
        let mut trainer = Command::new(PROGRAM);
        trainer.args(["train", "--trips-per-month", "1500", "--as-of", as_of, "--root"]).arg(self.root());
        trainer.stdout(Stdio::null()).spawn().unwrap()
    }

    async fn store(&self) -> FeatureStore {
        let root = self.root();
        let store = FeatureStore::open_with(root.to_str().unwrap(), StoreOptions::default().cache_in_memory()).await.unwrap();
        store.register(asof_features::zone_demand_v1().unwrap()).unwrap();
        store.register(asof_features::taxi_v2().unwrap()).unwrap();
        store
    }
}

/// The service; killed when a test fails.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(place: &Place, cache: &str, refresh_every: &str) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--listen", "127.0.0.1:0", "--refresh-every", refresh_every, "--root"]).arg(place.root());
        command.arg("--cache").arg(place.0.path().join(cache));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {said:?}")).to_owned();
        Self { process, address }
    }

    fn connect(&self) -> Connection {
        Connection::to(&self.address)
    }

    fn get(&self, path: &str) -> (u16, Json) {
        self.connect().ask("GET", path, b"")
    }

    fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        self.connect().ask("POST", path, body.to_string().as_bytes())
    }

    fn tell_to_stop(&self) {
        assert!(Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it has ended, and expects the exit code 0.
    fn ended(mut self) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn until(&self, what: &str, is_so: impl Fn(&Json) -> bool) -> Json {
        let since = Instant::now();
        loop {
            let (_, health) = self.get("/health");
            if is_so(&health) {
                return health;
            }
            assert!(since.elapsed() < Duration::from_secs(120), "it did not come about that {what}: {health}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection that is kept open.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn send_head(&mut self, method: &str, path: &str, length: usize) {
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    }

    /// The status and the body as text.
    fn answer(&mut self) -> (u16, String) {
        let mut line = String::new();
        let mut next = |reader: &mut BufReader<TcpStream>| {
            line.clear();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = next(&mut self.0);
        let status = first.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {first:?}")).parse().unwrap();
        let mut length = 0;
        loop {
            let header = next(&mut self.0).to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(bytes) = header.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    fn ask_text(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        self.send_head(method, path, body.len());
        self.send(body);
        self.answer()
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Json) {
        let (status, text) = self.ask_text(method, path, body);
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {status}, and no JSON: {text:?}")))
    }
}

// --- what it should answer ---------------------------------------------------------------------------------------------

/// What is sent, and what it means.
fn requests() -> Vec<(Json, [(&'static str, Value); 3])> {
    [
        (161, "2014-06-23T10:00:00Z", 2.4),
        (132, "2014-06-24T14:30:00.25-04:00", 17.9),
        (9_007_199_254_740_993_i64, "2014-06-25T00:00:00Z", 0.0),
    ]
    .into_iter()
    .map(|(zone, at, miles)| {
        let row = json!({"pickup_zone": zone, "pickup_at": at, "trip_distance": miles});
        let at: AsOf = at.parse().unwrap();
        (row, [("pickup_zone", zone.into()), ("pickup_at", at.into()), ("trip_distance", miles.into())])
    })
    .collect()
}

/// The model, written down once more.
fn predicted(model: &Json, row: &FeatureRow) -> f64 {
    let mut sum = model["intercept"].as_f64().unwrap();
    for (name, coefficient) in model["coefficients"].as_object().unwrap() {
        sum += coefficient.as_f64().unwrap() * row.number(name).unwrap().unwrap();
    }
    sum
}

fn floats(predictions: &Json) -> Vec<u64> {
    predictions.as_array().unwrap().iter().map(|x| x.as_f64().unwrap().to_bits()).collect()
}

/// Holds an object of features against a row, in bits.
fn assert_features(found: &Json, row: &FeatureRow) {
    let found = found.as_object().unwrap();
    assert_eq!(found.len(), row.schema().fields().len());
    for (name, found) in found {
        match row.value(name).unwrap() {
            Value::Null => assert!(found.is_null(), "{name}: {found}"),
            Value::Int(x) => assert_eq!(found.as_i64(), Some(x), "{name}"),
            Value::Float(x) => assert_eq!(found.as_f64().unwrap().to_bits(), x.to_bits(), "{name}: {found}"),
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// Everything that was published as of one day.
struct Day {
    rides: Materialization,
    zones: Materialization,
    model_id: String,
    model: Json,
}

async fn days(store: &FeatureStore, days: &[&str]) -> Vec<Day> {
    let models = store.models("fare").await.unwrap();
    let mut published = Vec::new();
    for day in days {
        let as_of: AsOf = day.parse().unwrap();
        let (rides, zones) = (store.materialize(RIDES, as_of).await.unwrap(), store.materialize(ZONES, as_of).await.unwrap());
        let recorded = models.iter().find(|model| model.check_serves(&rides).is_ok()).unwrap();
        let model = serde_json::from_slice(&recorded.artifact().await.unwrap()).unwrap();
        published.push(Day { rides, zones, model_id: recorded.id().to_string(), model });
    }
    published
}

// --- tests -------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_and_a_bad_request_is_told_why() {
    let place = Place::new();
    // Before there is anything to serve, it says so, and takes up what is published then.
    let service = Service::start(&place, "cache", NEVER);
    for (status, answer) in [service.get("/health"), service.post("/predict", &requests()[0].0), service.get("/features/161")] {
        assert!(status == 503 && answer["error"].as_str().unwrap().contains(RIDES), "{status} {answer}");
    }
    assert!(place.train(DAYS[0]).wait().unwrap().success());
    let (status, refresh) = service.post("/refresh", &Json::Null);
    assert_eq!((status, refresh["moved"].as_array().unwrap().len()), (200, 3), "{refresh}");
    assert_eq!(service.post("/refresh", &Json::Null), (200, json!({"moved": []})));

    let store = place.store().await;
    let day = days(&store, &DAYS[..1]).await.pop().unwrap();
    let (rides, zones) = (store.online(RIDES).await.unwrap(), store.online(ZONES).await.unwrap());
    assert_features_are_those_of(&service, &zones);
    assert_predictions_are_those_of(&service, &rides, &day);
    assert_bad_requests_are_refused(&service);

    let (status, health) = service.get("/health");
    assert_eq!((status, &health["failing_since"], &health["error"]), (200, &Json::Null, &Json::Null));
    assert_eq!(health["model"], json!({"name": "fare", "id": day.model_id}));
    assert_eq!(health["sets"][0]["id"], json!(day.rides.id().to_string()));
    assert_eq!(health["sets"][1]["as_of"], json!("2014-06-01T00:00:00Z"));
    assert_eq!(health["sets"][1]["rows"], json!(day.zones.rows()));
    assert!(health["sets"][1]["age_seconds"].as_i64().unwrap() > 0);
    assert_metrics(&service, &day);

    // The root goes, and the service goes on.
    let before = service.post("/predict", &requests()[0].0);
    let (root, away) = (place.root(), place.0.path().join("away"));
    fs::rename(&root, &away).unwrap();
    let (status, answer) = service.post("/refresh", &Json::Null);
    assert!(status == 503 && answer["error"].as_str().unwrap().contains("served on"), "{answer}");
    let (status, health) = service.get("/health");
    assert!(status == 200 && health["failing_since"].is_string() && health["error"] == answer["error"], "{health}");
    assert_eq!(service.post("/predict", &requests()[0].0), before);
    assert_eq!(service.get("/features/161").0, 200);
    assert!(!root.exists());
    fs::rename(&away, &root).unwrap();
    assert_eq!(service.post("/refresh", &Json::Null), (200, json!({"moved": []})));
    assert!(service.get("/health").1["failing_since"].is_null());

    // Requests whose bodies are on their way are answered after it was told to stop, and nothing else is taken any more.
    let body = requests()[1].0.to_string().into_bytes();
    let mut in_flight: Vec<Connection> = (0..5).map(|_| service.connect()).collect();
    for connection in &mut in_flight {
        connection.send_head("POST", "/predict", body.len());
        connection.send(&body[..10]);
    }
    let mut idle = service.connect();
    assert_eq!(idle.ask("GET", "/health", b"").0, 200);
    std::thread::sleep(Duration::from_millis(300));
    service.tell_to_stop();
    // The idle connection is closed at once.
    assert_eq!(idle.0.read(&mut [0]).unwrap(), 0);
    std::thread::sleep(Duration::from_millis(100));
    assert!(TcpStream::connect(&service.address).is_err());
    for mut connection in in_flight {
        connection.send(&body[10..]);
        let (status, answer) = connection.answer();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(connection.0.read(&mut [0]).unwrap(), 0);
    }
    service.ended();
}

fn assert_features_are_those_of(service: &Service, zones: &Online) {
    let keys: Vec<i64> = (1..=20).chain([132, 161, 263, 9_999, -1, i64::MAX]).collect();
    let mut connection = service.connect();
    let id = json!(zones.materialization().id().to_string());
    for key in &keys {
        let (status, answer) = connection.ask("GET", &format!("/features/{key}"), b"");
        assert_eq!((status, &answer["id"], &answer["as_of"]), (200, &id, &json!("2014-06-01T00:00:00Z")));
        assert_features(&answer["features"], &zones.get(&[Value::Int(*key)]).unwrap());
    }
    let listed: Vec<String> = keys.iter().map(i64::to_string).collect();
    let by_query = connection.ask("GET", &format!("/features?keys={}", listed.join(",")), b"");
    assert_eq!(connection.ask("POST", "/features", json!(keys).to_string().as_bytes()), by_query);
    let (status, answer) = by_query;
    assert_eq!((status, &answer["id"], answer["rows"].as_array().unwrap().len()), (200, &id, keys.len()));
    for (key, row) in keys.iter().zip(answer["rows"].as_array().unwrap()) {
        assert_features(row, &zones.get(&[Value::Int(*key)]).unwrap());
    }
    assert_eq!(connection.ask("POST", "/features", b"[]").1["rows"], json!([]));
    // A key may be null, which matches nothing, and may be an array of its columns.
    let nothing = connection.ask("POST", "/features", b"[null, [161]]").1;
    assert_features(&nothing["rows"][0], &zones.get(&[Value::Null]).unwrap());
    assert_features(&nothing["rows"][1], &zones.get(&[Value::Int(161)]).unwrap());
}

fn assert_predictions_are_those_of(service: &Service, rides: &Online, day: &Day) {
    let (rows, values): (Vec<Json>, Vec<_>) = requests().into_iter().unzip();
    let expected: Vec<u64> =
        values.iter().map(|values| predicted(&day.model, &rides.encode_row(values).unwrap()).to_bits()).collect();
    let (status, answer) = service.post("/predict", &json!(rows));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(floats(&answer["predictions"]), expected);
    assert_eq!(answer["model"], json!(day.model_id));
    assert_eq!(answer["materializations"], json!({RIDES: day.rides.id().to_string(), ZONES: day.zones.id().to_string()}));
    for (row, expected) in rows.iter().zip(expected) {
        assert_eq!(floats(&service.post("/predict", row).1["predictions"]), [expected]);
    }
    assert_eq!(service.post("/predict", &json!([])).1["predictions"], json!([]));
    // Without a distance there is no prediction.
    let unknown = json!({"pickup_zone": 161, "pickup_at": "2014-06-23T10:00:00Z", "trip_distance": null});
    assert_eq!(service.post("/predict", &unknown).1["predictions"], json!([null]));
}

/// Method, path and body; the status of the answer, and the column that it names.
type BadRequest = (&'static str, &'static str, Vec<u8>, u16, Option<&'static str>);

fn assert_bad_requests_are_refused(service: &Service) {
    let row =
        |zone: &str, at: &str, miles: &str| format!(r#"{{"pickup_zone": {zone}, "pickup_at": {at}, "trip_distance": {miles}}}"#);
    let at = r#""2014-06-23T10:00:00Z""#;
    let good = row("161", at, "2.4");
    let many = format!("[{}]", vec![good.as_str(); 1_001].join(","));
    let deep = "[".repeat(100_000);
    let large = " ".repeat((1 << 20) + 1);
    let cases: Vec<BadRequest> = vec![
        ("POST", "/predict", b"".into(), 400, None),
        ("POST", "/predict", b"{".into(), 400, None),
        ("POST", "/predict", b"\xff\xfe".into(), 400, None),
        ("POST", "/predict", deep.into(), 400, None),
        ("POST", "/predict", b"7".into(), 400, None),
        ("POST", "/predict", b"[[]]".into(), 400, None),
        ("POST", "/predict", many.into(), 400, None),
        ("POST", "/predict", large.clone().into(), 413, None),
        ("POST", "/predict", b"{}".into(), 400, Some("trip_distance")),
        ("POST", "/predict", format!("[{good}, {{}}]").into(), 400, Some("trip_distance")),
        ("POST", "/predict", good.replace("pickup_zone", "pickup_place").into(), 400, Some("pickup_place")),
        ("POST", "/predict", row("\"Midtown\"", at, "2.4").into(), 400, Some("pickup_zone")),
        ("POST", "/predict", row("161.5", at, "2.4").into(), 400, Some("pickup_zone")),
        ("POST", "/predict", row("1e2", at, "2.4").into(), 400, Some("pickup_zone")),
        ("POST", "/predict", row("18446744073709551616", at, "2.4").into(), 400, Some("pickup_zone")),
        ("POST", "/predict", row("[161]", at, "2.4").into(), 400, Some("pickup_zone")),
        ("POST", "/predict", row("161", "1403517600", "2.4").into(), 400, Some("pickup_at")),
        ("POST", "/predict", row("161", "\"2014-06-23 10:00\"", "2.4").into(), 400, Some("pickup_at")),
        ("POST", "/predict", row("161", "\"2014-06-23T10:00:00\"", "2.4").into(), 400, Some("pickup_at")),
        ("POST", "/predict", row("161", "\"2014-06-23T10:00:00.0000001Z\"", "2.4").into(), 400, Some("pickup_at")),
        ("POST", "/predict", row("161", at, "\"far\"").into(), 400, Some("trip_distance")),
        ("POST", "/predict", row("161", at, "true").into(), 400, Some("trip_distance")),
        ("POST", "/predict", row("161", at, "{}").into(), 400, Some("trip_distance")),
        ("POST", "/predict", row("161", at, "9007199254740993").into(), 400, Some("trip_distance")),
        ("POST", "/predict", row("161", at, "1e999").into(), 400, None),
        ("GET", "/features/midtown", b"".into(), 400, Some("pickup_zone")),
        ("GET", "/features/1.5", b"".into(), 400, Some("pickup_zone")),
        ("GET", "/features/%ff", b"".into(), 400, None),
        ("GET", "/features", b"".into(), 400, None),
        ("GET", "/features?key=1", b"".into(), 400, None),
        ("GET", "/features?keys=1,,2", b"".into(), 400, Some("pickup_zone")),
        ("GET", "/features?keys=1,x", b"".into(), 400, Some("pickup_zone")),
        ("POST", "/features", b"{}".into(), 400, None),
        ("POST", "/features", b"[1, [2, 3]]".into(), 400, None),
        ("POST", "/features", b"[1, \"x\"]".into(), 400, Some("pickup_zone")),
        ("POST", "/features", large.into(), 413, None),
        ("GET", "/", b"".into(), 404, None),
        ("GET", "/features/1/2", b"".into(), 404, None),
        ("POST", "/predictions", good.clone().into(), 404, None),
        ("GET", "/predict", b"".into(), 405, None),
        ("DELETE", "/features/161", b"".into(), 405, None),
        ("PUT", "/health", b"".into(), 405, None),
        ("GET", "/refresh", b"".into(), 405, None),
    ];
    for (method, path, body, status, column) in cases {
        let (found, answer) = service.connect().ask(method, path, &body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        assert_eq!((found, answer["column"].as_str()), (status, column), "{method} {path} {shown}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| error.len() > 10), "{method} {path} {shown}: {answer}");
    }
    let (_, answer) = service.connect().ask("POST", "/predict", format!("[{good}, {{}}]").as_bytes());
    assert!(answer["error"].as_str().unwrap().starts_with("row 1: "), "{answer}");
    assert_eq!(service.connect().ask("POST", "/predict", good.as_bytes()).0, 200);
}

fn assert_metrics(service: &Service, day: &Day) {
    let page = |service: &Service| {
        let (status, text) = service.connect().ask_text("GET", "/metrics", b"");
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let page: BTreeMap<String, f64> = lines
            .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
            .collect();
        page
    };
    let before = page(service);
    for _ in 0..3 {
        assert_eq!(service.get("/features/161").0, 200);
        assert_eq!(service.get("/features/9999").0, 200);
        assert_eq!(service.get("/elsewhere").0, 404);
    }
    let after = page(service);
    let risen = |name: &str| after[name] - before.get(name).copied().unwrap_or_default();
    let route = "route=\"/features/{key}\",status=\"200\"";
    assert_eq!(risen(&format!("http_requests_total{{{route}}}")), 6.0);
    assert_eq!(risen(&format!("http_request_duration_seconds_count{{{route}}}")), 6.0);
    assert_eq!(risen(&format!("http_request_duration_seconds_bucket{{{route},le=\"+Inf\"}}")), 6.0);
    assert!(risen(&format!("http_request_duration_seconds_sum{{{route}}}")) > 0.0);
    assert_eq!(risen("http_requests_total{route=\"none\",status=\"404\"}"), 3.0);
    let reads = |found: bool| format!("feature_reads_total{{set=\"{ZONES}\",found=\"{found}\"}}");
    assert_eq!((risen(&reads(true)), risen(&reads(false))), (3.0, 3.0));
    assert_eq!(after[&format!("feature_set_info{{set=\"{RIDES}\",id=\"{}\"}}", day.rides.id())], 1.0);
    assert_eq!(after[&format!("model_info{{model=\"fare\",id=\"{}\"}}", day.model_id)], 1.0);
    assert_eq!(after[&format!("feature_rows{{set=\"{ZONES}\"}}")], day.zones.rows() as f64);
    assert!(after[&format!("feature_as_of_age_seconds{{set=\"{ZONES}\"}}")] > 0.0);
    assert_eq!(after["feature_refresh_failing_since_seconds"], 0.0);
    assert_eq!(
        (after["feature_refreshes_total{outcome=\"succeeded\"}"], after["feature_refreshes_total{outcome=\"failed\"}"]),
        (2.0, 1.0)
    );
}

/// An answer under load: whose it is, and the predictions in bits.
type Told = (String, String, String, Vec<u64>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails_or_mixes_while_a_trainer_publishes_and_a_model_that_does_not_fit_is_refused() {
    let place = Place::new();
    assert!(place.train(DAYS[0]).wait().unwrap().success());
    let service = Service::start(&place, "cache", "0.1");
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|number| {
            let (address, is_over) = (service.address.clone(), is_over.clone());
            std::thread::spawn(move || {
                let body = json!(requests().into_iter().map(|(row, _)| row).collect::<Vec<_>>()).to_string();
                let (mut connection, mut told) = (Connection::to(&address), Vec::<Told>::new());
                while !is_over.load(Ordering::Relaxed) {
                    let (status, answer) = connection.ask("POST", "/predict", body.as_bytes());
                    assert_eq!(status, 200, "{answer}");
                    let text = |value: &Json| value.as_str().unwrap().to_owned();
                    let made = &answer["materializations"];
                    let next = (text(&made[RIDES]), text(&made[ZONES]), text(&answer["model"]), floats(&answer["predictions"]));
                    if told.last() != Some(&next) {
                        told.push(next);
                    }
                    if number == 0 {
                        assert_eq!(connection.ask("GET", "/features?keys=161,132", b"").0, 200);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                told
            })
        })
        .collect();
    for day in &DAYS[1..] {
        let mut trainer = place.train(day);
        assert!(tokio::task::block_in_place(|| trainer.wait()).unwrap().success());
        let at = json!(format!("{day}T00:00:00Z"));
        service.until("the next day is served", |health| health["sets"][0]["as_of"] == at && health["failing_since"].is_null());
    }
    is_over.store(true, Ordering::Relaxed);
    let told: Vec<Vec<Told>> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();

    // Every answer is that of its ids, which belong together, and no day comes after a later one.
    let store = place.store().await;
    let days = days(&store, &DAYS).await;
    let mut known = BTreeMap::<(usize, usize), Vec<u64>>::new();
    let mut seen = BTreeSet::new();
    for told in &told {
        let mut last = (0, 0);
        for (rides, zones, model, predictions) in told {
            let number = |is_it: &dyn Fn(&Day) -> bool| days.iter().position(is_it).unwrap();
            let now = (number(&|day| day.rides.id().to_string() == *rides), number(&|day| day.zones.id().to_string() == *zones));
            assert_eq!(days[now.0].model_id, *model, "the model of another day");
            assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
            if let Entry::Vacant(entry) = known.entry(now) {
                let online = store.online_with(&days[now.0].rides, std::slice::from_ref(&days[now.1].zones)).await.unwrap();
                let bits = |(_, values): (Json, [(&str, Value); 3])| {
                    predicted(&days[now.0].model, &online.encode_row(&values).unwrap()).to_bits()
                };
                entry.insert(requests().into_iter().map(bits).collect());
            }
            assert_eq!(known[&now], *predictions, "a mix at {now:?}");
            seen.insert(now.0);
            last = now;
        }
    }
    assert!(seen.contains(&3) && seen.len() > 1, "{seen:?}");

    // A model that was fitted on other features is refused, and the old pair goes on.
    let (old, newest) = (&days[0], &days[3]);
    let bytes = serde_json::to_vec(&newest.model).unwrap();
    let other_states = NewModel::new("fare", &old.rides).artifact(bytes.clone()).metadata("of", "older states");
    let other_set = NewModel::new("fare", &newest.zones).artifact(bytes.clone()).metadata("of", "another set");
    let no_model = NewModel::new("fare", &newest.rides).artifact(b"weights".to_vec()).metadata("of", "other bytes");
    let unknown = br#"{"intercept": 1.0, "coefficients": {"wind": 2.0}}"#.to_vec();
    let other_features = NewModel::new("fare", &newest.rides).artifact(unknown).metadata("of", "other features");
    let refused = [
        (other_states, "learned something else"),
        (other_set, "another definition"),
        (no_model, "expected value"),
        (other_features, "wind"),
    ];
    let before = service.post("/predict", &requests()[0].0);
    for (number, (model, why)) in refused.into_iter().enumerate() {
        let wrong = store.record_model(model).await.unwrap();
        let (status, answer) = service.post("/refresh", &Json::Null);
        assert!(status == 503 && answer["error"].as_str().unwrap().contains(why), "{status} {answer}");
        assert_eq!(service.post("/predict", &requests()[0].0), before);
        let (status, health) = service.get("/health");
        assert!(status == 200 && health["failing_since"].is_string(), "{health}");
        assert_eq!(health["model"]["id"], json!(newest.model_id));
        if number == 0 {
            // One that starts now has no old pair, and says so.
            let second = Service::start(&place, "second cache", NEVER);
            let (status, health) = second.get("/health");
            assert!(status == 503 && health["error"].as_str().unwrap().contains(why), "{health}");
            assert_eq!(second.post("/predict", &requests()[0].0).0, 503);
            second.tell_to_stop();
            second.ended();
        }
        store.forget_model("fare", wrong.id()).await.unwrap();
        service.until("it is refreshed again", |health| health["failing_since"].is_null());
    }
    service.tell_to_stop();
    service.ended();
}

#[test]
fn what_serves_is_built_without_linfa_and_plots() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let tree = |flags: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--manifest-path"]).arg(&package).args(flags);
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).unwrap();
        names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let found = |tree: BTreeSet<String>| -> Vec<String> {
        let heavy = ["linfa", "plotters", "rand_distr", "reqwest", "rustls"];
        heavy.into_iter().filter(|name| tree.contains(*name)).map(str::to_owned).collect()
    };
    assert_eq!(found(tree(&["--no-default-features"])), Vec::<String>::new());
    assert_eq!(found(tree(&[])), ["linfa", "rand_distr", "reqwest", "rustls"]);
}
