"""Pages of reports, made from figures that are known, as a browser draws them."""
