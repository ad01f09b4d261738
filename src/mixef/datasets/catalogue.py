"""What each shipped data set holds, and where its measurements were published."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One data set: its size, what was measured, and the publication it comes from."""

    rows: int
    columns: tuple[str, ...]
    description: str
    source: str


_DAVIES = "Davies & Goldsmith (1972), Statistical Methods in Research and Production, 4th ed."

CATALOGUE: dict[str, Entry] = {
    "sleepstudy": Entry(
        180,
        ("Reaction", "Days", "Subject"),
        "Mean reaction time (ms) of 18 subjects on each of 10 days in a study of sleep "
        "deprivation: the group with 3 hours in bed a night. Days 0 and 1 were training and "
        "day 2 the baseline; the short nights came after it.",
        "Belenky et al. (2003), Journal of Sleep Research 12, 1-12",
    ),
    "Dyestuff": Entry(
        30,
        ("Batch", "Yield"),
        "Yield of a dye (grams of standard color) in 5 preparations from each of 6 batches of "
        "an intermediate product.",
        f"{_DAVIES}, section 6.4",
    ),
    "Dyestuff2": Entry(
        30,
        ("Batch", "Yield"),
        "Made-up yields in the layout of Dyestuff, with less variation between batches than "
        "within them would give: the estimated variance of Batch is zero.",
        "Box & Tiao (1973), Bayesian Inference in Statistical Analysis, section 5.1.2",
    ),
    "Penicillin": Entry(
        144,
        ("diameter", "plate", "sample"),
        "Diameter (mm) of the zone in which 6 samples of penicillin stopped bacteria from "
        "growing, each sample on each of 24 plates: two fully crossed factors.",
        f"{_DAVIES}, section 6.6",
    ),
    "Pastes": Entry(
        60,
        ("strength", "batch", "cask", "sample"),
        "Strength of a chemical paste: two tests of each of 3 casks from each of 10 "
        "deliveries. The labels of cask repeat from batch to batch; those of sample do not.",
        f"{_DAVIES}, section 6.5",
    ),
    "cake": Entry(
        270,
        ("replicate", "recipe", "temperature", "angle", "temp"),
        "Angle (degrees) at which chocolate cakes broke: 3 recipes, 6 baking temperatures "
        "(Fahrenheit; an ordered factor, and a number in temp) and 15 replicates in a split-plot "
        "design.",
        "Cook (1938), Chocolate cake, I. Optimum baking temperature, Master's thesis, Iowa State "
        "College; printed in Cochran & Cox (1957), Experimental Designs, 2nd ed., p. 300",
    ),
    "cbpp": Entry(
        56,
        ("herd", "incidence", "size", "period"),
        "New cases of contagious bovine pleuropneumonia, and the animals at the start, in 15 "
        "Ethiopian herds over 4 periods. A few herds are missing from some periods.",
        "Lesnoff et al. (2004), Preventive Veterinary Medicine 64, 27-40",
    ),
    "VerbAgg": Entry(
        7584,
        ("Anger", "Gender", "item", "resp", "id", "btype", "situ", "mode", "r2"),
        "Answers of 316 persons to 24 questions on verbal aggression: resp has three ordered "
        "values and r2 joins the upper two.",
        "De Boeck & Wilson (2004), Explanatory Item Response Models, Springer",
    ),
    "grouseticks": Entry(
        403,
        ("INDEX", "TICKS", "BROOD", "HEIGHT", "YEAR", "LOCATION", "cHEIGHT"),
        "Ticks counted on the heads of 403 red grouse chicks from 118 broods at 63 places, with "
        "the height above sea level (m; centred in cHEIGHT).",
        "Elston et al. (2001), Parasitology 122, 563-569",
    ),
    "Arabidopsis": Entry(
        625,
        ("reg", "popu", "gen", "rack", "nutrient", "amd", "status", "total.fruits"),
        "Fruits set by plants of 24 genotypes from 9 populations in 3 regions, with or without "
        "fertilizer and with or without clipping of the shoot tip.",
        "Banta, Stevens & Pigliucci (2010), Oikos 119, 359-369",
    ),
    "InstEval": Entry(
        73421,
        ("s", "d", "studage", "lectage", "service", "dept", "y"),
        "Ratings from 1 (poor) to 5 (very good) that 2972 students s gave to lectures of 1128 "
        "instructors d: two large, partly crossed factors. lectage is the semesters since the "
        "lecture, studage the student's semester, service a lecture for another department.",
        "Lecture evaluations at ETH Zurich, made anonymous; published as InstEval in the R "
        "package lme4 (Bates, Maechler, Bolker & Walker 2015, Journal of Statistical Software "
        "67(1))",
    ),
    "Contraception": Entry(
        1934,
        ("woman", "district", "use", "livch", "age", "urban"),
        "Use of contraception by 1934 women in 60 districts of Bangladesh, with the number of "
        "living children, the age (years from the mean) and whether the district is urban.",
        "Bangladesh Fertility Survey of 1988; Steele, Diamond & Amin (1996), Journal of the "
        "Royal Statistical Society A 159, 289-299",
    ),
}
