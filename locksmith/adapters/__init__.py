"""What plain Python functions get: `run_once`. No framework, and no idea which store it stands on."""
