"""What any of the programs needs: settings, checkpoints, devices, scores, tables, pictures."""
