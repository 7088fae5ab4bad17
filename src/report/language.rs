//! Which languages a text can be in, by its script, and what a report's own headings are in a
//! language. Says nothing where a script has too many.

/// A script's letters and the languages written in it.
struct Script {
    letters: &'static [(char, char)],
    languages: &'static [&'static str],
}

const HAN: [(char, char); 4] = [
    ('\u{3400}', '\u{4dbf}'),
    ('\u{4e00}', '\u{9fff}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{20000}', '\u{323af}'),
];
const KANA: (char, char) = ('\u{3040}', '\u{30ff}');

/// "Python" is none of them, though a planner says so if it is let.
const LATIN: Script = Script {
    letters: &[('a', 'z'), ('A', 'Z'), ('\u{00c0}', '\u{024f}'), ('\u{1e00}', '\u{1eff}')],
    languages: &[
        "English",
        "Spanish",
        "French",
        "German",
        "Portuguese",
        "Italian",
        "Dutch",
        "Polish",
        "Turkish",
        "Vietnamese",
        "Indonesian",
        "Swedish",
        "Norwegian",
        "Danish",
        "Finnish",
        "Czech",
        "Slovak",
        "Hungarian",
        "Romanian",
        "Croatian",
        "Slovenian",
        "Catalan",
        "Basque",
        "Galician",
        "Irish",
        "Welsh",
        "Latin",
        "Esperanto",
        "Swahili",
        "Tagalog",
        "Malay",
        "Afrikaans",
    ],
};

/// Ranges are the blocks of the Unicode standard.
const SCRIPTS: [Script; 12] = [
    Script { letters: &HAN, languages: &["Chinese", "Japanese"] },
    Script { letters: &[KANA], languages: &["Japanese"] },
    Script {
        letters: &[('\u{1100}', '\u{11ff}'), ('\u{ac00}', '\u{d7af}')],
        languages: &["Korean"],
    },
    Script {
        letters: &[('\u{0600}', '\u{06ff}'), ('\u{0750}', '\u{077f}'), ('\u{fb50}', '\u{fdff}')],
        languages: &["Arabic", "Persian", "Urdu"],
    },
    Script {
        letters: &[('\u{0400}', '\u{052f}')],
        languages: &["Russian", "Ukrainian", "Bulgarian", "Serbian"],
    },
    Script { letters: &[('\u{0370}', '\u{03ff}')], languages: &["Greek"] },
    Script { letters: &[('\u{0590}', '\u{05ff}')], languages: &["Hebrew"] },
    Script { letters: &[('\u{0900}', '\u{097f}')], languages: &["Hindi", "Marathi", "Nepali"] },
    Script { letters: &[('\u{0980}', '\u{09ff}')], languages: &["Bengali"] },
    Script { letters: &[('\u{0b80}', '\u{0bff}')], languages: &["Tamil"] },
    Script { letters: &[('\u{0c00}', '\u{0c7f}')], languages: &["Telugu"] },
    Script { letters: &[('\u{0e00}', '\u{0e7f}')], languages: &["Thai"] },
];

/// The English names of the languages that a topic of this script can be in, the most spoken
/// first; `None` for scripts that are not listed. A third of the letters decides, as
/// names and technical terms stay Latin everywhere.
pub(super) fn languages(topic: &str) -> Option<&'static [&'static str]> {
    let letters = topic.chars().filter(|c| c.is_alphabetic()).count();
    let count = |script: &Script| topic.chars().filter(|&c| script.has(c)).count();
    let [han, kana, ..] = &SCRIPTS;
    if count(kana) > 0 && 3 * (count(han) + count(kana)) >= letters {
        return Some(kana.languages);
    }
    let main = SCRIPTS.iter().max_by_key(|script| count(script))?;
    let decides = |script: &&Script| count(script) > 0 && 3 * count(script) >= letters;
    [main, &LATIN].into_iter().find(decides).map(|script| script.languages)
}

/// What a document is given in its language beside what the models write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Headings {
    /// As HTML's `lang` wants it (BCP 47).
    pub(super) code: &'static str,
    pub(super) contents: &'static str,
    pub(super) introduction: &'static str,
    pub(super) conclusion: &'static str,
}

/// A language's names, code, and headings.
type Row = (&'static [&'static str], [&'static str; 4]);

const HEADINGS: [Row; 20] = [
    (&["english"], ["en", "Contents", "Introduction", "Conclusion"]),
    (&["chinese", "中文", "汉语"], ["zh", "目录", "引言", "结论"]),
    (&["japanese", "日本語"], ["ja", "目次", "はじめに", "おわりに"]),
    (&["korean", "한국어"], ["ko", "목차", "서론", "결론"]),
    (&["german", "deutsch"], ["de", "Inhalt", "Einleitung", "Fazit"]),
    (&["french", "français"], ["fr", "Sommaire", "Introduction", "Conclusion"]),
    (&["spanish", "español"], ["es", "Índice", "Introducción", "Conclusión"]),
    (&["portuguese", "português"], ["pt", "Índice", "Introdução", "Conclusão"]),
    (&["italian", "italiano"], ["it", "Indice", "Introduzione", "Conclusione"]),
    (&["dutch", "nederlands"], ["nl", "Inhoud", "Inleiding", "Conclusie"]),
    (&["polish", "polski"], ["pl", "Spis treści", "Wstęp", "Podsumowanie"]),
    (&["turkish", "türkçe"], ["tr", "İçindekiler", "Giriş", "Sonuç"]),
    (&["russian", "русский"], ["ru", "Содержание", "Введение", "Заключение"]),
    (&["ukrainian", "українська"], ["uk", "Зміст", "Вступ", "Висновок"]),
    (&["greek", "ελληνικά"], ["el", "Περιεχόμενα", "Εισαγωγή", "Συμπέρασμα"]),
    (&["arabic", "العربية"], ["ar", "المحتويات", "المقدمة", "الخاتمة"]),
    (&["persian", "فارسی"], ["fa", "فهرست", "مقدمه", "نتیجه‌گیری"]),
    (&["hebrew", "עברית"], ["he", "תוכן העניינים", "מבוא", "סיכום"]),
    (&["hindi", "हिन्दी"], ["hi", "विषय-सूची", "परिचय", "निष्कर्ष"]),
    (&["bengali", "বাংলা"], ["bn", "সূচিপত্র", "ভূমিকা", "উপসংহার"]),
];

/// The headings in the language a plan names; in English if it is none of the table.
pub(super) fn headings(language: &str) -> Headings {
    let (_, [code, contents, introduction, conclusion]) = *row(language).unwrap_or(&HEADINGS[0]);
    Headings { code, contents, introduction, conclusion }
}

fn row(language: &str) -> Option<&'static Row> {
    let language = language.trim().to_lowercase();
    HEADINGS.iter().find(|(names, _)| names.iter().any(|name| language.starts_with(name)))
}

/// Words that nearly every text of a language has and few texts of the others.
const COMMON: [(&str, &[&str]); 9] = [
    ("en", &["the", "and", "of", "is", "that", "with", "for", "are", "this", "by", "which"]),
    ("de", &["der", "und", "die", "das", "ist", "mit", "nicht", "ein", "eine", "für", "wird"]),
    ("fr", &["de", "la", "le", "les", "et", "des", "est", "une", "dans", "pour", "qui", "du"]),
    ("es", &["de", "la", "el", "los", "las", "y", "es", "una", "para", "con", "del", "por"]),
    ("pt", &["de", "a", "os", "e", "uma", "para", "com", "não", "do", "da", "em", "são"]),
    ("it", &["di", "la", "il", "e", "che", "una", "per", "con", "sono", "della", "gli"]),
    ("nl", &["de", "het", "en", "een", "van", "is", "dat", "met", "voor", "niet", "zijn"]),
    ("pl", &["i", "w", "na", "z", "się", "jest", "nie", "do", "że", "jak", "są", "oraz"]),
    ("tr", &["ve", "bir", "bu", "için", "ile", "olarak", "çok", "daha", "olan", "gibi", "de"]),
];
/// Fewer of them are no sign.
const SIGN: usize = 3;

/// Whether the text is in a language: by its script, and of Latin ones by its commonest words.
/// `None` if neither tells.
pub(super) fn is_kept(language: &str, text: &str) -> Option<bool> {
    let scripts = languages(text)?;
    let code = code_of(language)?;
    if !scripts.iter().any(|name| code_of(name) == Some(code)) {
        return Some(false);
    }
    if scripts != LATIN.languages {
        return Some(true);
    }
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let count = |common: &[&str]| words.iter().filter(|word| common.contains(&&***word)).count();
    let counts = COMMON.map(|(code, common)| (code, count(common)));
    let most = counts.iter().map(|(_, count)| *count).max().filter(|most| *most >= SIGN)?;
    let (_, own) = counts.iter().find(|(of, _)| *of == code)?;
    Some(*own == most)
}

/// The code of a language by its name; `None` if it is none of the table.
fn code_of(language: &str) -> Option<&'static str> {
    row(language).map(|(_, [code, ..])| *code)
}

/// True for a character of a script that sets no words apart.
pub(super) fn is_unspaced(c: char) -> bool {
    const THAI: (char, char) = ('\u{0e00}', '\u{0e7f}');
    HAN.iter().chain([&KANA, &THAI]).any(|&(first, last)| (first..=last).contains(&c))
}

/// True for languages that are written from right to left.
pub(super) fn is_right_to_left(code: &str) -> bool {
    ["ar", "fa", "he", "ur"].contains(&code)
}

impl Script {
    fn has(&self, c: char) -> bool {
        self.letters.iter().any(|&(first, last)| (first..=last).contains(&c))
    }
}

#[cfg(test)]
mod tests {
    use super::{headings, is_kept, languages};

    #[test]
    fn a_script_names_its_languages() {
        let main = |topic| languages(topic).map(|languages| languages[0]);
        assert_eq!(main("大语言模型 (LLM) 的缩放定律"), Some("Chinese"));
        assert_eq!(main("大規模言語モデルのスケーリング則"), Some("Japanese"));
        assert_eq!(main("언어 모델의 법칙"), Some("Korean"));
        assert_eq!(main("قوانين التحجيم"), Some("Arabic"));
        assert_eq!(main("История кофе в России"), Some("Russian"));
        assert_eq!(main("भारत का इतिहास"), Some("Hindi"));
    }

    #[test]
    fn latin_letters_leave_their_languages_and_other_scripts_all() {
        for topic in ["La historia del café en Colombia", "What the sign 道 means in Taoism"] {
            let languages = languages(topic).unwrap();
            assert!(languages.contains(&"Spanish") && !languages.contains(&"Chinese"), "{topic}");
        }
        assert_eq!(languages("2026"), None);
        assert_eq!(languages("ქართული ენა"), None);
    }

    #[test]
    fn a_kept_language_is_told_by_script_and_by_common_words() {
        let (english, spanish) =
            ("The loss of the model is low.", "El modelo es una red y los datos.");
        for (language, text, kept) in [
            ("English", english, Some(true)),
            ("English", spanish, Some(false)),
            ("Spanish", spanish, Some(true)),
            ("Spanish", english, Some(false)),
            ("Chinese", "数据很重要。", Some(true)),
            ("Chinese", english, Some(false)),
            ("Japanese", "データは重要です。", Some(true)),
            ("English", "数据很重要。", Some(false)),
            ("English", "x = 1", None),
            ("Klingon", english, None),
        ] {
            assert_eq!(is_kept(language, text), kept, "{language}: {text}");
        }
    }

    #[test]
    fn headings_are_in_the_plans_language_or_in_english() {
        assert_eq!(headings("Chinese (Simplified)").introduction, "引言");
        assert_eq!(headings("Español").conclusion, "Conclusión");
        for other in ["", "Klingon", "English"] {
            assert_eq!(headings(other).contents, "Contents");
        }
    }
}
