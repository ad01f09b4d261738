"""Linear and generalized linear mixed models from an lme4 formula."""
