"""The texts of seeded badges: several scripts, right-to-left, emoji, combining characters."""

ISSUERS = (
    ("Höhere Schule für Maß & Gewicht", "Prüft, misst und wiegt – seit 1893. ⚖️", "mass.example.org"),
    ("東京オープンバッジ学院", "学びを証明するための学校です。🎌", "tokyo.example.org"),
    ("جامعة الشارات المفتوحة", "تعليم مفتوح للجميع، من اليمين إلى اليسار.", "sharat.example.org"),
    ("Академия открытых знаков", "Обучение, которое можно проверить. 📜", "znak.example.org"),
    ("विद्या संकेत संस्थान", "ज्ञान का प्रमाण, हर किसी के लिए।", "vidya.example.org"),
    ("Σχολή Ανοιχτών Διακριτικών", "Η γνώση αποδεικνύεται. 🏛️", "scholi.example.org"),
    ("האקדמיה לתגים פתוחים", "לימוד שאפשר לאמת.", "tagim.example.org"),
    ("Café Ha\u0300 No\u0302\u0323i – Trường Mở", "Học mọi lúc, mọi nơi ☕️.", "truong.example.org"),
)
ACHIEVEMENTS = (
    (
        "Erste Hilfe ⛑️",
        "Leistet Erste Hilfe, ruhig und richtig – auch in Öl & Rauch.",
        ("Gesundheit", "první pomoc"),
    ),
    ("データ分析の基礎", "表計算と統計の基礎を身につけた。📊", ("データ", "統計")),
    ("مهارات الكتابة", "يكتب نصاً واضحاً ومترابطاً.", ("كتابة", "لغة")),
    ("Основы программирования", "Пишет понятные программы и проверяет их. 💻", ("код", "проверка")),
    ("गणित प्रवीण", "बीजगणित और ज्यामिति में निपुण।", ("गणित",)),
    (
        "Re\u0301sume\u0301 & Ångström 👩🏽‍🔬",
        "Naïve façade, coöperation, ﬁn — one text, many accents.",
        ("e\u0301clair", "smørrebrød"),
    ),
)
NARRATIVES = (
    "Hat die Prüfung „mit Auszeichnung“ bestanden. 🏅",
    "最終課題を期限内に提出し、高い評価を得た。",
    "أكمل المشروع النهائي بنجاح 🎉",
    "Защитила проект перед комиссией.",
    "परियोजना समय पर पूरी की।",
    "Ολοκλήρωσε την εργασία με άριστα 👏🏿.",
    "השלימה את הפרויקט בהצטיינות.",
    "Đã hoàn tha\u0300nh bài thi cuối khóa.",
)
EVIDENCE_NAMES = (
    "Abschlussarbeit",
    "最終レポート",
    "التقرير النهائي",
    "Отчёт 📄",
    "प्रतिवेदन",
    "Έκθεση",
    "דוח",
    "Báo ca\u0301o",
)
REASONS = ("Irrtum im Namen", "不正行為", "طلب من الحائز", "Отозвано по ошибке ⚠️", "Ζητήθηκε", "बदल दिया गया")
PEOPLE = (
    "zoë",
    "renée",
    "jürgen",
    "łukasz",
    "søren",
    "nuño",
    "chloé",
    "bjørn",
    "ayşe",
    "đặng",
    "иван",
    "花子",
)
