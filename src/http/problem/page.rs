//! The pages behind the `type` of a problem.

use super::Kind;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;\
    padding:0 1rem}dt{font-weight:600}code{font-size:1rem}";

/// The page of one problem as HTML; `None` when no problem has this slug.
#[must_use]
pub fn page(slug: &str) -> Option<String> {
    let text = Kind::ALL.iter().map(|kind| kind.text()).find(|text| text.slug == slug)?;
    let body = format!(
        "<h1>{}</h1><p><code>/problems/{}</code>, status {}</p><dl><dt>What it means</dt>\
         <dd>{}</dd><dt>What to do</dt><dd>{}</dd></dl><p><a href=\"/problems\">All \
         problems</a></p>",
        text.title, text.slug, text.status, text.meaning, text.remedy
    );
    Some(document(text.title, &body))
}

/// The page that lists every problem, as HTML.
#[must_use]
pub fn index_page() -> String {
    let mut body = String::from("<h1>Problems</h1><ul>");
    for text in Kind::ALL.iter().map(|kind| kind.text()) {
        body.push_str(&format!(
            "<li><a href=\"/problems/{}\">{}</a> ({}): {}</li>",
            text.slug, text.title, text.status, text.meaning
        ));
    }
    body.push_str("</ul>");
    document("Problems", &body)
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} - Sillage</title>\
         <style>{STYLE}</style>{body}</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_page_and_stands_in_the_index() {
        let index = index_page();
        for kind in Kind::ALL {
            let text = kind.text();
            let page = page(text.slug).expect("every slug has a page");
            assert!(page.contains(text.meaning) && page.contains(text.remedy));
            assert!(index.contains(&format!("/problems/{}\"", text.slug)));
        }
        assert_eq!(page("no-such-problem"), None);
    }
}
