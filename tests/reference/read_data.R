# Reads NAME.csv and NAME.json of data/ as fit_record.R wrote them: data sets that no package here has.
# classroom: B. T. West, K. B. Welch and A. T. Galecki (2007), Linear Mixed Models; cbpp2: lme4 from 1.1-38 on;
# kb07: E. Kronmueller and D. J. Barr (2007), Experiment 2, kb07_exp2_rt.rds of github.com/dalejbarr/kronmueller-barr-2007.
OTHERS <- c("classroom", "cbpp2", "kb07")
read_data <- function(name, dir) {
  meta <- jsonlite::fromJSON(file.path(dir, paste0(name, ".json")))
  classes <- sapply(meta, function(m) switch(m$kind, factor = "character", integer = "integer", double = "numeric"))
  d <- read.csv(file.path(dir, paste0(name, ".csv")), colClasses = classes)
  for (column in names(meta)) if (meta[[column]]$kind == "factor")
    d[[column]] <- factor(d[[column]], levels = meta[[column]]$levels, ordered = meta[[column]]$ordered)
  d
}
