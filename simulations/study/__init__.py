"""`crossplant study`: detectors x data sets x modes x seeds, measured alike, in one resumable command (docs/study.md).

- `plan`: what is to be compared, frozen with its digest before any data is opened.
- `datasets`, `entrants`: which data, and which sites take part in which mode.
- `contestant`: what can be compared; `neural`, `lagged`, `library` are its kinds, `overlays` the ablations.
- `cells`, `child`, `pool`: one cell a process, kept on disk.
- `measure`, `statistics`, `results`: labels, which only these see, and what follows from them.
- `page`: the report.
"""
