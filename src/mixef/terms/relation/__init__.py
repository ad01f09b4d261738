"""Data that stay where they lie: in files, a database or a cluster; read in batches of rows."""
