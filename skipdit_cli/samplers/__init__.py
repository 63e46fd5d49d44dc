"""One file per sampler, each with one public function `sample`; the noise schedule they share."""
