//! The rows of a set of rows in a training set: queried once, encoded when they are first read.
//! A train part learns its own states; a test part is encoded with those of its train part.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

use crate::{
    engine::Engine,
    error::Result,
    manifest::StepState,
    materialize::{Pipeline, QueriedRows, RowBuffer},
};

/// Rows of a set's query, and by whose states they are selected and encoded.
#[derive(Clone)]
pub(super) enum RowsOfSet {
    /// By those that these rows teach.
    Train(Learner),
    /// By those that other rows teach.
    Test { queried: QueriedRows, by: Learner, encoded: Arc<OnceCell<Arc<RowBuffer>>> },
}

/// Rows from which the steps of a set learn, when they are first asked.
#[derive(Clone)]
pub(super) struct Learner {
    queried: QueriedRows,
    learned: Arc<OnceCell<Learned>>,
}

/// What the steps have learned, and the rows from which they did, selected and encoded.
pub(super) struct Learned {
    rows: Arc<RowBuffer>,
    pipeline: Arc<Pipeline>,
    pub(super) selections: Vec<StepState>,
    pub(super) encoders: Vec<StepState>,
}

impl Learner {
    fn new(queried: QueriedRows) -> Self {
        Self { queried, learned: Arc::default() }
    }

    async fn learned(&self, engine: &Engine) -> Result<&Learned> {
        let learn = || async {
            let encoded = self.queried.clone().learn_and_encode(engine, RowBuffer::create).await?;
            let (rows, pipeline) = (Arc::new(encoded.rows.finish()?), Arc::new(encoded.pipeline));
            Ok(Learned { rows, pipeline, selections: encoded.selections, encoders: encoded.encoders })
        };
        self.learned.get_or_try_init(learn).await
    }
}

impl RowsOfSet {
    /// All rows of a query.
    pub(super) fn all(queried: QueriedRows) -> Self {
        Self::Train(Learner::new(queried))
    }

    /// The rows before they are selected and encoded.
    pub(super) fn queried(&self) -> BoxStream<'static, Result<RecordBatch>> {
        self.rows().rows().stream()
    }

    /// The schema of these rows.
    pub(super) fn queried_schema(&self) -> SchemaRef {
        self.rows().rows().schema().clone()
    }

    /// The columns that were added to those of the query: what is drawn, what lies ahead, and the time at which a row was known.
    pub(super) fn added(&self) -> Vec<String> {
        self.rows().added()
    }

    fn rows(&self) -> &QueriedRows {
        match self {
            Self::Train(learner) => &learner.queried,
            Self::Test { queried, .. } => queried,
        }
    }

    /// These rows in two parts. If they taught their own states, the train part does so now and the test part uses them.
    pub(super) fn split(&self, train: RowBuffer, test: RowBuffer) -> (Self, Self) {
        let (train, test) = (self.rows().part(train), self.rows().part(test));
        let of = |queried, by: &Learner| Self::Test { queried, by: by.clone(), encoded: Arc::default() };
        match self {
            Self::Train(_) => {
                let learner = Learner::new(train);
                (Self::Train(learner.clone()), of(test, &learner))
            }
            Self::Test { by, .. } => (of(train, by), of(test, by)),
        }
    }

    /// The selected and encoded rows, with the columns of a materialization.
    pub(super) async fn encoded(&self, engine: &Engine) -> Result<Arc<RowBuffer>> {
        match self {
            Self::Train(learner) => Ok(learner.learned(engine).await?.rows.clone()),
            Self::Test { queried, by, encoded } => {
                let encode = || async {
                    let pipeline = by.learned(engine).await?.pipeline.clone();
                    Ok(Arc::new(queried.clone().encode_with(engine, pipeline).await?))
                };
                encoded.get_or_try_init(encode).await.cloned()
            }
        }
    }

    /// What the steps have learned, from these rows or from those of the train part.
    pub(super) async fn states(&self, engine: &Engine) -> Result<&Learned> {
        let (Self::Train(learner) | Self::Test { by: learner, .. }) = self;
        learner.learned(engine).await
    }
}
