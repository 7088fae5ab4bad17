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
/// first; `None` for Latin and for scripts that are not listed. A third of the letters decides, as
/// names and technical terms stay Latin everywhere.
pub(super) fn languages(topic: &str) -> Option<&'static [&'static str]> {
    let letters = topic.chars().filter(|c| c.is_alphabetic()).count();
    let count = |script: &Script| topic.chars().filter(|&c| script.has(c)).count();
    let [han, kana, ..] = &SCRIPTS;
    if count(kana) > 0 && 3 * (count(han) + count(kana)) >= letters {
        return Some(kana.languages);
    }
    let main = SCRIPTS.iter().max_by_key(|script| count(script))?;
    (count(main) > 0 && 3 * count(main) >= letters).then_some(main.languages)
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
    let language = language.trim().to_lowercase();
    let row =
        HEADINGS.iter().find(|(names, _)| names.iter().any(|name| language.starts_with(name)));
    let (_, [code, contents, introduction, conclusion]) = *row.unwrap_or(&HEADINGS[0]);
    Headings { code, contents, introduction, conclusion }
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
    use super::{headings, languages};

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
    fn latin_letters_and_a_foreign_word_name_none() {
        assert_eq!(languages("La historia del café en Colombia"), None);
        assert_eq!(languages("What the sign 道 means in Taoism"), None);
        assert_eq!(languages("2026"), None);
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
