//! What all networks have in common, whatever their architecture.

use rushlight::nn::{Description, Module, Path, Visitor, VisitorMut};
use rushlight::{Error, Result, Tensor};

use super::Network;

impl Network {
    /// The architecture as files call it.
    pub fn architecture(&self) -> &'static str {
        match self {
            Network::Bert(_) => "bert",
            Network::Gpt(_) => "gpt2",
            Network::Llama(_) => "llama",
        }
    }

    /// Tokens that it knows.
    pub fn vocab_size(&self) -> usize {
        match self {
            Network::Bert(bert) => bert.embeddings.word.weight.dims()[0],
            Network::Gpt(gpt) => gpt.wte.weight.dims()[0],
            Network::Llama(llama) => llama.embed_tokens.weight.shape()[0],
        }
    }

    /// The longest sequence.
    pub fn context(&self) -> usize {
        match self {
            Network::Bert(bert) => bert.embeddings.position.weight.dims()[0],
            Network::Gpt(gpt) => gpt.wpe.weight.dims()[0],
            Network::Llama(llama) => llama.max_positions(),
        }
    }

    /// What follows each of the tokens `[B, T]`: logits, `[B, T, vocab]`. Errors: a BERT, which foretells nothing; more
    /// tokens than the context; an id outside the vocabulary.
    pub fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        match self {
            Network::Bert(_) => Err(Error::invalid("logits", "a BERT does not say what follows a token")),
            Network::Gpt(gpt) => gpt.forward(tokens),
            Network::Llama(llama) => llama.forward(tokens),
        }
    }

    fn module(&self) -> &dyn Module {
        match self {
            Network::Bert(bert) => bert,
            Network::Gpt(gpt) => gpt,
            Network::Llama(llama) => llama,
        }
    }

    fn module_mut(&mut self) -> &mut dyn Module {
        match self {
            Network::Bert(bert) => bert,
            Network::Gpt(gpt) => gpt,
            Network::Llama(llama) => llama,
        }
    }
}

/// As the network in it.
impl Module for Network {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        self.module().visit(path, f);
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        self.module_mut().visit_mut(path, f)
    }

    fn set_training(&mut self, training: bool) {
        self.module_mut().set_training(training);
    }

    fn describe(&self) -> Description {
        self.module().describe()
    }
}
