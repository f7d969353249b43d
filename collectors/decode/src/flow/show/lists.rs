//! Lists within a record: `{"semantic":"allOf","element":…,"values":[…]}` or `{…,"records":[{"template":…,…}]}`.

use super::{show_fields, show_value};
use crate::flow::decode::Known;
use crate::flow::json::Json;
use crate::flow::lists::{BasicValues, List, MAX_DEPTH, SubTemplates, semantic_name};

pub(super) fn show(json: &mut Json<'_>, list: List<'_>, known: &Known<'_>, depth: usize) {
    let (List::Basic(bytes) | List::SubTemplate(bytes) | List::SubTemplateMulti(bytes)) = list;
    if depth >= MAX_DEPTH {
        return json.hex(bytes);
    }
    let shown = match list {
        List::Basic(bytes) => BasicValues::read(bytes).map(|values| basic(json, values, known, depth)),
        List::SubTemplate(bytes) => SubTemplates::read(bytes, false).map(|parts| records(json, parts, known, depth)),
        List::SubTemplateMulti(bytes) => {
            SubTemplates::read(bytes, true).map(|parts| records(json, parts, known, depth))
        }
    };
    if shown.is_none() {
        json.hex(bytes);
    }
}

fn basic(json: &mut Json<'_>, values: BasicValues<'_>, known: &Known<'_>, depth: usize) {
    json.object(|json| {
        json.name("semantic").plain(semantic_name(values.semantic));
        json.name("element").plain(values.name);
        json.name("values").array(|json| values.for_each(|value| show_value(json, value, known, depth + 1)));
    });
}

fn records(json: &mut Json<'_>, parts: SubTemplates<'_>, known: &Known<'_>, depth: usize) {
    json.object(|json| {
        json.name("semantic").plain(semantic_name(parts.semantic));
        json.name("records").array(|json| {
            for part in parts {
                let Some(template) = known.get(part.template) else {
                    json.object(|json| {
                        json.name("template").number(part.template.into());
                        json.name("undescribed").hex(part.body);
                    });
                    continue;
                };
                for record in template.records(part.body) {
                    json.object(|json| {
                        json.name("template").number(part.template.into());
                        json.name("fields").object(|json| show_fields(json, &record, known, depth + 1));
                    });
                }
            }
        });
    });
}
