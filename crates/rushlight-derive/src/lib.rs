//! `#[derive(Module)]` for Rushlight: visits every field of a struct under its name. See `rushlight::nn::Module`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Field, Fields, Type, parse_macro_input};

/// Implements `rushlight::nn::Module` for a struct.
///
/// Every field is visited under its name, but for numbers, bools, strings, and arrays, options and tuples of them,
/// which are shown in the printout, and fields marked `#[module(skip)]`.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> syn::Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(&input.ident, "Module can be derived for structs only"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(&input.ident, "Module needs named fields: parameters are named by them"));
    };
    let (mut visits, mut visits_mut, mut trainings) = (vec![], vec![], vec![]);
    let (mut children, mut settings) = (vec![], vec![]);
    for field in &fields.named {
        let Some(ident) = &field.ident else { continue };
        let name = ident.to_string().trim_start_matches("r#").to_string();
        match role(field)? {
            Role::Skip => {}
            Role::Setting => settings.push(quote!(parts.push(format!("{}={:?}", #name, self.#ident));)),
            Role::Child => {
                visits.push(quote!(path.enter(#name, |path| Module::visit(&self.#ident, path, f));));
                visits_mut.push(quote!(path.enter(#name, |path| Module::visit_mut(&mut self.#ident, path, f))?;));
                trainings.push(quote!(Module::set_training(&mut self.#ident, training);));
                children.push(quote!((#name.to_string(), Module::describe(&self.#ident))));
            }
        }
    }
    let (ident, type_name) = (&input.ident, input.ident.to_string());
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        #[allow(unused_variables, unused_mut)]
        const _: () = {
            use ::rushlight::nn::{Description, Module, Path, Visitor, VisitorMut};
            impl #generics Module for #ident #arguments #conditions {
                fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
                    #(#visits)*
                }
                fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> ::rushlight::Result<()> {
                    #(#visits_mut)*
                    Ok(())
                }
                fn set_training(&mut self, training: bool) {
                    #(#trainings)*
                }
                fn describe(&self) -> Description {
                    let mut parts: Vec<String> = vec![];
                    #(#settings)*
                    Description {
                        name: #type_name.to_string(),
                        settings: parts.join(", "),
                        children: vec![#(#children),*],
                        hidden: false,
                    }
                }
            }
        };
    })
}

enum Role {
    /// Visited.
    Child,
    /// A plain value, shown in the printout.
    Setting,
    Skip,
}

fn role(field: &Field) -> syn::Result<Role> {
    if let Some(attribute) = field.attrs.iter().find(|a| a.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| match meta.path.is_ident("skip") {
            true => Ok(()),
            false => Err(meta.error("expected `#[module(skip)]`")),
        })?;
        return Ok(Role::Skip);
    }
    Ok(if is_plain(&field.ty) { Role::Setting } else { Role::Child })
}

/// Numbers, bools, strings, and arrays, tuples, options and vectors of them.
fn is_plain(ty: &Type) -> bool {
    const PLAIN: [&str; 17] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64", "bool",
        "char", "String",
    ];
    match ty {
        Type::Array(array) => is_plain(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().all(is_plain),
        Type::Reference(reference) => is_plain(&reference.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            if PLAIN.iter().any(|p| last.ident == p) || last.ident == "str" {
                return true;
            }
            let wraps = last.ident == "Option" || last.ident == "Vec";
            match &last.arguments {
                syn::PathArguments::AngleBracketed(a) if wraps => {
                    a.args.iter().all(|a| matches!(a, syn::GenericArgument::Type(t) if is_plain(t)))
                }
                _ => false,
            }
        }),
        _ => false,
    }
}
