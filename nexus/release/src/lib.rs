//! Intake of signed TUF releases: zip, signatures, bytes.
