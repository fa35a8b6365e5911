"""The figures: one file each, with its computation, drawing, page panel and caption."""
