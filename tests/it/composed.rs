//! What the configuration composes, by the commands that people type.

use std::fs;

use candle_core::quantized::GgmlDType;
use serde_json::Value;

use crate::{adding::text, damaged, desk::Desk, folder, tiny::Shape};

/// The text of each member's prompt, marks of the template left out.
fn prompts(out: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(out).unwrap();
    let token = |token: &Value| token["text"].as_str().unwrap_or_default().to_owned();
    let split = |split: &Value| split["tokens"].as_array().unwrap().iter().map(token).collect();
    json["splits"].as_array().unwrap().iter().map(split).collect()
}

#[test]
fn members_are_told_what_is_set_for_them_and_no_others() {
    let desk = Desk::new();
    let folders = [folder::folder(), folder::folder(), folder::folder()];
    let [a, b, c] = folders.each_ref().map(|folder| {
        let template = "{% for m in messages %}<|turn|>{{ m.role }}:{{ m.content }};{% endfor %}\
                        {{ style }}{{ size }}{{ end }}";
        fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        text(folder.path())
    });
    desk.write(
        "tutti.toml",
        &format!(
            r#"
            [model."{a}"]
            template_args = {{ style = "plain", size = 1, end = "." }}
            [[ensemble]]
            name = "three"
            members = [
                {{ model = "{a}" }},
                {{ model = "{b}", system = "Be brief." }},
                {{ model = "{c}", template_args = {{ size = 3 }} }},
            ]
            template_args = {{ style = "own", size = 2 }}
            "#
        ),
    );
    let prompts = prompts(&desk.out(&["inspect", "hi", "--chat", "--json"]));
    let expected = ["user:hi;own2.", "system:Be brief.;user:hi;own2", "user:hi;own3"];
    assert_eq!(prompts, expected);

    desk.write("tutti.toml", "[model.nobody]\n");
    let error = desk.refusal(&["inspect", "hi", "--chat"]);
    assert!(error.contains("model.nobody"), "{error}");
}

#[test]
fn an_ensemble_of_ones_own_leaves_the_map_of_its_built_in_namesake_alone() {
    let desk = Desk::new();
    let folders = [folder::folder(), folder::folder()];
    let [a, b] = folders.each_ref().map(|folder| text(folder.path()));
    fs::create_dir(desk.at("vocab-maps")).unwrap();
    desk.write("vocab-maps/duet.map", "the built-in one's");
    let members = format!("{{ model = \"{a}\" }}, {{ model = \"{b}\" }}");
    for (name, map) in [("duet", "duet-own.map"), ("mine", "mine.map")] {
        let config = format!("[[ensemble]]\nname = \"{name}\"\nmembers = [{members}]\n");
        desk.write("tutti.toml", &config);
        desk.out(&["inspect", "hi", "--next"]);
        assert!(desk.at("vocab-maps").join(map).exists(), "{map}");
    }
    let kept = fs::read_to_string(desk.at("vocab-maps/duet.map")).unwrap();
    assert_eq!(kept, "the built-in one's");
}

#[test]
fn weights_made_smaller_at_load_are_told_with_what_that_costs() {
    let desk = Desk::new();
    let model = desk.at("plain.gguf");
    let plain = damaged::of(&Shape { dtypes: &[GgmlDType::F16, GgmlDType::F32], ..damaged::SMALL });
    fs::copy(plain.write().0.path(), &model).unwrap();
    let said = |words: &[&str]| {
        let output =
            desk.run(&[&["inspect", "the", "--next", "--model", text(&model)], words].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), error)
    };
    let (fine, plain) = said(&[]);
    assert!(fine && !plain.contains("quantized"), "{plain}");
    let (fine, told) = said(&["--quantize", "q8_0"]);
    assert!(fine && told.contains("quantized to q8_0") && told.contains("perplexity "), "{told}");
    assert!(told.contains(" %) on "), "{told}");
    let (fine, refused) = said(&["--quantize", "q8_1"]);
    assert!(!fine && refused.contains("`q8_1`") && refused.contains("q8_0"), "{refused}");

    let own = format!(
        "[engine]\nquantize = \"q8_0\"\n[model.\"{}\"]\nquantize = \"none\"\n",
        text(&model)
    );
    desk.write("tutti.toml", &own);
    assert!(!said(&[]).1.contains("quantized"));
    assert!(said(&["--quantize", "q8_0"]).1.contains("quantized"));
}
