//! Changes of `[vpn]` in the configuration, as any other change of it: whole or not at all, with its history, and taken
//! back unless it is confirmed where it may have ended the session that made it.

use super::Confirm;
use crate::client::{Client, unexpected};
use crate::config::change;
use crate::failure::{Failure, OK};
use crate::output::Output;
use raven_model::control::{Request, Response};
use raven_model::tunnel::TunnelName;
use raven_model::units::Span;
use std::time::Duration;
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// Without another: enough to log in anew and confirm.
const PATIENCE: Span = Span(Duration::from_mins(1));

/// Uses a profile.
pub fn enable(
    name: &TunnelName,
    first: bool,
    confirm: &Confirm,
    client: &Client,
    output: &mut Output,
) -> Result<u8, Failure> {
    edit(client, confirm, output, |document| {
        known(document, name)?;
        let mut order = order_of(document);
        order.retain(|other| other != name.as_str());
        order.insert(if first { 0 } else { order.len() }, name.to_string());
        set_order(document, &order)
    })
}

/// Uses a profile no more.
pub fn disable(name: &TunnelName, confirm: &Confirm, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    edit(client, confirm, output, |document| {
        known(document, name)?;
        let mut order = order_of(document);
        order.retain(|other| other != name.as_str());
        set_order(document, &order)
    })
}

/// Uses these, in this order.
pub fn order(names: &[TunnelName], confirm: &Confirm, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    edit(client, confirm, output, |document| {
        names.iter().try_for_each(|name| known(document, name))?;
        set_order(document, &names.iter().map(ToString::to_string).collect::<Vec<_>>())
    })
}

/// Puts a version into force; a profile that is new is not in use yet.
pub fn version(
    name: &TunnelName,
    version: u32,
    confirm: &Confirm,
    client: &Client,
    output: &mut Output,
) -> Result<u8, Failure> {
    let mut in_use = false;
    let code = edit(client, confirm, output, |document| {
        profile(document, name)?.insert("version", value(i64::from(version)));
        in_use = order_of(document).contains(&name.to_string());
        Ok(())
    })?;
    if !in_use {
        output.remark(&format!("raven: it is used after `raven vpn enable {name}`"));
    }
    Ok(code)
}

/// Takes a profile that is not in use out of the configuration.
pub fn forget(name: &TunnelName, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let (mut document, _) = read(client)?;
    if order_of(&document).contains(&name.to_string()) {
        return Err(Failure::Refused(vec![format!("{name} is in use: `raven vpn disable {name}` first")]));
    }
    let profiles = document.get_mut("vpn").and_then(|vpn| vpn.get_mut("profile")).and_then(Item::as_table_like_mut);
    if profiles.and_then(|profiles| profiles.remove(name.as_str())).is_some() {
        change(&Request::Put { text: document.to_string(), confirm: None }, None, client, output)?;
    }
    Ok(())
}

fn edit(
    client: &Client,
    confirm: &Confirm,
    output: &mut Output,
    edit: impl FnOnce(&mut DocumentMut) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let (mut document, before) = read(client)?;
    edit(&mut document)?;
    let text = document.to_string();
    if text == before {
        output.line("nothing to change")?;
        return Ok(OK);
    }
    let over_ssh = std::env::var_os("SSH_CONNECTION").is_some();
    let confirm = confirm.confirm.or(over_ssh.then_some(PATIENCE));
    change(&Request::Put { text, confirm: confirm.map(|span| span.0.as_secs()) }, confirm, client, output)
}

fn read(client: &Client) -> Result<(DocumentMut, String), Failure> {
    let text = match client.ask(&Request::Text)? {
        Response::Text(text) => text,
        other => return Err(unexpected(&other)),
    };
    let document = text.parse().map_err(|error| Failure::Refused(vec![format!("the configuration: {error}")]))?;
    Ok((document, text))
}

fn known(document: &DocumentMut, name: &TunnelName) -> Result<(), Failure> {
    let profiles = document.get("vpn").and_then(|vpn| vpn.get("profile")).and_then(Item::as_table_like);
    if profiles.is_some_and(|profiles| profiles.contains_key(name.as_str())) {
        return Ok(());
    }
    Err(Failure::Refused(vec![format!("there is no profile {name}: `raven vpn import {name} FILE` first")]))
}

fn order_of(document: &DocumentMut) -> Vec<String> {
    let order = document.get("vpn").and_then(|vpn| vpn.get("order")).and_then(Item::as_array);
    order.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn set_order(document: &mut DocumentMut, order: &[String]) -> Result<(), Failure> {
    vpn(document)?.insert("order", value(order.iter().map(String::as_str).collect::<Array>()));
    Ok(())
}

fn vpn(document: &mut DocumentMut) -> Result<&mut dyn toml_edit::TableLike, Failure> {
    table(document.as_table_mut(), "vpn", "vpn", false)
}

fn profile<'a>(document: &'a mut DocumentMut, name: &TunnelName) -> Result<&'a mut dyn toml_edit::TableLike, Failure> {
    let profiles = table(vpn(document)?, "profile", "vpn.profile", true)?;
    table(profiles, name.as_str(), &format!("vpn.profile.{name}"), false)
}

/// The table below a key, made where there is none.
fn table<'a>(
    of: &'a mut dyn toml_edit::TableLike,
    key: &str,
    path: &str,
    implicit: bool,
) -> Result<&'a mut dyn toml_edit::TableLike, Failure> {
    if of.get(key).is_none() {
        let mut new = Table::new();
        new.set_implicit(implicit);
        of.insert(key, Item::Table(new));
    }
    let found = of.get_mut(key).and_then(Item::as_table_like_mut);
    found.ok_or_else(|| Failure::Refused(vec![format!("the configuration: `{path}` is no table")]))
}
