"""Everything at a plant that needs torch: training, inference, calibration."""
