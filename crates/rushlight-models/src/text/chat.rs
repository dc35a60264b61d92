//! Chats as one text: the Jinja template that came with a model puts its marks around the messages.
//!
//! Templates are programs of strangers. They see only the messages, and their steps and what they write are bounded.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use rushlight::{Error, Result};

const OP: &str = "ChatTemplate";
/// Steps a template may take for each message, about: those in use take some tens.
const STEPS: u64 = 10_000;
/// Bytes it may write beside what the messages say, for each.
const MARKS: usize = 1 << 16;

/// What one side of a chat said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The words.
    pub content: String,
}

impl Message {
    /// `Message::new("user", "What is a rush?")`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// The template that makes one text of the messages of a chat.
///
/// transformers: `apply_chat_template(messages, tokenize=False, add_generation_prompt=True)`, with the same settings
/// (blocks leave no line of their own) and the same additions (`raise_exception`, methods of Python's strings).
///
/// ```
/// use rushlight_models::text::{ChatTemplate, Message};
///
/// let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}<assistant>";
/// let template = ChatTemplate::new(source, None, Some("</s>".into()));
/// let text = template.render(&[Message::new("user", " What is a rush? ")])?;
/// assert_eq!(text, "<user>What is a rush?</s><assistant>");
/// # Ok::<(), rushlight::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

impl ChatTemplate {
    /// From Jinja, with the tokens that it may ask for by `bos_token` and `eos_token`. It is not read yet: a model whose
    /// template is broken can do all but chat.
    pub fn new(source: impl Into<String>, bos_token: Option<String>, eos_token: Option<String>) -> ChatTemplate {
        ChatTemplate { source: source.into(), bos_token, eos_token }
    }

    /// The Jinja.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The messages as one text, at whose end the assistant is to speak. [`super::Tokenizer::encode_marked`] makes
    /// tokens of it.
    ///
    /// Errors: a template that is no Jinja, asks for what it is not given, refuses the messages (with its words), or
    /// does not come to an end.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let refuse = |e: minijinja::Error| {
            let told = std::error::Error::source(&e).map(ToString::to_string).or(e.detail().map(str::to_string));
            let cause = told.unwrap_or_else(|| e.kind().to_string());
            let line = e.line().map_or(String::new(), |line| format!(" (line {line})"));
            Error::invalid(OP, format!("the model's chat template{line}: {cause}"))
        };
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(refuse)?);
        environment.set_fuel(Some(STEPS * (messages.len() as u64 + 1)));
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        let template = environment.template_from_str(&self.source).map_err(refuse)?;
        let said: usize = messages.iter().map(|m| m.content.len()).sum();
        let mut out = Bounded { text: vec![], room: 2 * said + MARKS * (messages.len() + 1) };
        let (bos_token, eos_token) = (&self.bos_token, &self.eos_token);
        let messages: Vec<Value> =
            messages.iter().map(|m| context! { role => &m.role, content => &m.content }).collect();
        let given = context! { messages, add_generation_prompt => true, bos_token, eos_token };
        template.render_captured_to(given, &mut out).map_err(refuse)?;
        String::from_utf8(out.text).map_err(|e| Error::invalid(OP, e.to_string()))
    }
}

/// What is written, as long as there is room.
struct Bounded {
    text: Vec<u8>,
    room: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("it writes without end"))?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        let messages = [Message::new("system", "Be brief."), Message::new("user", "  Hello!  ")];
        ChatTemplate::new(source, Some("<s>".into()), None).render(&messages)
    }

    #[test]
    fn what_templates_in_use_ask_for() {
        let source = "{{ bos_token }}\n{%- for message in messages %}\n  {% if message['role'] == 'user' %}\n\
                      [{{ message['content'].strip() }}]\n  {% endif %}\n{% endfor %}\n\
                      {% if add_generation_prompt %}>{% endif %}";
        assert_eq!(render(source).unwrap(), "<s>[Hello!]\n>");
        assert_eq!(render("{{ messages[1:] | length }}{{ eos_token is none }}").unwrap(), "1True");
        assert_eq!(render("{% if tools is defined %}x{% endif %}").unwrap(), "");
    }

    #[test]
    fn strangers_templates_are_refused_with_the_cause() {
        for (source, cause) in [
            ("{% for %}", "unexpected end of block"),
            ("\n{{ raise_exception('only users here') }}", "(line 2): only users here"),
            ("{% for i in range(9999) %}{% for i in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
            ("{% set x = 'x' * 99999 %}{% for i in range(999) %}{{ x }}{% endfor %}", "writes without end"),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
            ("{{ messages.no.such }}", "undefined"),
            ("{% include 'x' %}", "non-existing"),
        ] {
            let message = render(source).unwrap_err().to_string();
            assert!(message.contains("chat template") && message.contains(cause), "{source}: {message}");
        }
    }
}
