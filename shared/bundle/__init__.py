"""A bundle: everything a plant needs to score live data and to alarm, as one folder with one digest and one signature.

    SITE.bundle/                    a folder of versions, as an agent publishes it
        current                     the digest of the version in force, then all versions, newest first
        DIGEST/                     one bundle; the newest five stay
            bundle.json             provenance, the SHA-256 of every other file, and its own digest
            signature.json          Ed25519 over bundle.json, by the plant's own agent
            model.safetensors       weights and clusters, the global model of the round
            graph.onnx              the detector for one window
            recipe.json             the run's recipe, for those who train
            setup.json              what of it scoring needs
            schema.json             the columns, in order
            preprocessor.json       what happens to a reading before the network sees it
            score.json              how error and entropy become one score
            threshold.json          value, rule and provenance
            calibration.json        what the scores of normal data look like here
            probe.safetensors       some held-out rows, and the scores that the trainer gave for them
            limits.json             what a healthy sensor does (`shared.sensor_limits`)
            graph.int8.onnx         the same detector in 8 bits; optional
            guard.bin               the plant's local guard (`shared.local_guard`); optional
            judge.bin               what scores, in the place of score.json (`shared.evidence`); optional
            relations.bin           what scores beside the judge, on raw rows (`shared.relations`); optional

A model and its threshold are one artefact: a bundle whose files do not match their digests is refused as a whole. It
holds raw readings and never leaves the plant.

This package imports nothing by itself, so that each side pays only for what it uses:

    shared.bundle.folder   versions(folder), current(folder), point(folder, digest), located(folder): the folder of
                           versions. Standard library only.
    shared.bundle.parts    Provenance, Setup, Calibration, Probe: the values. NumPy, msgspec.
    shared.bundle.edge     EdgeBundle, read_edge_bundle(folder, trust=None), refuse_older, refuse_other_columns: what an
                           edge box reads. NumPy, msgspec, safetensors; neither pydantic nor torch nor cryptography.
    shared.bundle.trust    Trust(key, pin): whose signature counts; the check runs in a short child process.
    shared.bundle.whole    Bundle, read_bundle(folder), publish(bundle, live, folder, key): the training side. pydantic.
    shared.bundle.keys     own_key(path): the agent's key, made at first use. cryptography.
    shared.bundle.cli      `crossplant bundle show | verify`.

Whatever is wrong with a bundle is a BundleInvalid (CP-601) that names the folder, the file and what to do.
"""
