//! What a file says about its tensors: numbers, strings and lists of them, by name.

use std::fmt;

macro_rules! values {
    ($($variant:ident($t:ty), $doc:literal;)*) => {
        /// A value of a file's metadata, of one of GGUF's types.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $(#[doc = $doc] $variant($t),)*
            /// Many of one type.
            Array(Array),
        }

        /// Many values of one type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array {
            $(#[doc = $doc] $variant(Vec<$t>),)*
            /// Lists, each of one type.
            Array(Vec<Array>),
        }

        impl Array {
            /// How many.
            pub fn len(&self) -> usize {
                match self {
                    $(Array::$variant(x) => x.len(),)*
                    Array::Array(x) => x.len(),
                }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// One of them.
            pub fn get(&self, i: usize) -> Option<Value> {
                match self {
                    $(Array::$variant(x) => x.get(i).cloned().map(Value::$variant),)*
                    Array::Array(x) => x.get(i).cloned().map(Value::Array),
                }
            }
        }

        $(impl From<$t> for Value {
            fn from(x: $t) -> Value {
                Value::$variant(x)
            }
        })*

        $(impl From<Vec<$t>> for Value {
            fn from(x: Vec<$t>) -> Value {
                Value::Array(Array::$variant(x))
            }
        })*
    };
}

values! {
    U8(u8), "8-bit unsigned.";
    I8(i8), "8-bit signed.";
    U16(u16), "16-bit unsigned.";
    I16(i16), "16-bit signed.";
    U32(u32), "32-bit unsigned.";
    I32(i32), "32-bit signed.";
    U64(u64), "64-bit unsigned.";
    I64(i64), "64-bit signed.";
    F32(f32), "32-bit float.";
    F64(f64), "64-bit float.";
    Bool(bool), "True or false.";
    String(String), "Text.";
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_string())
    }
}

impl Value {
    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is an integer that i64 holds.
    pub fn as_i64(&self) -> Option<i64> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => i64::try_from(x).ok()?,
            Value::I64(x) => x,
            _ => return None,
        })
    }

    /// The number, if it is one, rounded to f64.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            Value::U64(x) => Some(x as f64),
            _ => self.as_i64().map(|x| x as f64),
        }
    }

    /// True or false, if it is either.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The texts, if it is a list of texts.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Value::Array(Array::String(all)) => Some(all),
            _ => None,
        }
    }
}

/// Text as it is; everything else as JSON would write it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(x) => x.fmt(f),
            Value::I8(x) => x.fmt(f),
            Value::U16(x) => x.fmt(f),
            Value::I16(x) => x.fmt(f),
            Value::U32(x) => x.fmt(f),
            Value::I32(x) => x.fmt(f),
            Value::U64(x) => x.fmt(f),
            Value::I64(x) => x.fmt(f),
            Value::F32(x) => x.fmt(f),
            Value::F64(x) => x.fmt(f),
            Value::Bool(x) => x.fmt(f),
            Value::String(text) => f.write_str(text),
            Value::Array(array) => array.fmt(f),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for i in 0..self.len() {
            if i > 0 {
                f.write_str(",")?;
            }
            match (self, self.get(i)) {
                (Array::String(all), _) => f.write_str(&serde_json::to_string(&all[i]).map_err(|_| fmt::Error)?)?,
                (Array::Array(all), _) => all[i].fmt(f)?,
                (_, value) => value.map_or(Ok(()), |value| value.fmt(f))?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_what_they_are() {
        assert_eq!(Value::from("a").as_str(), Some("a"));
        assert_eq!(
            (Value::U8(3).as_i64(), Value::U64(u64::MAX).as_i64(), Value::F32(1.0).as_i64()),
            (Some(3), None, None)
        );
        assert_eq!((Value::I16(-3).as_f64(), Value::F32(0.5).as_f64()), (Some(-3.0), Some(0.5)));
        assert_eq!((Value::Bool(true).as_bool(), Value::U8(1).as_bool()), (Some(true), None));
        let words = Value::from(vec!["a\"".to_string(), "ü".to_string()]);
        assert_eq!(words.as_strings().unwrap().len(), 2);
        assert_eq!(words.to_string(), r#"["a\"","ü"]"#);
        let nested =
            Value::Array(Array::Array(vec![Array::U8(vec![1, 2]), Array::Bool(vec![]), Array::F32(vec![0.5])]));
        assert_eq!(nested.to_string(), "[[1,2],[],[0.5]]");
        assert_eq!(nested.as_array().unwrap().get(0), Some(Value::from(vec![1u8, 2])));
        assert_eq!(nested.as_array().unwrap().get(3), None);
    }
}
