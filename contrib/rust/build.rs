// SPDX-License-Identifier: MIT
// Where libfixd is: FIXD_LIB_DIR, or what pkg-config says; the linker's own directories otherwise.
use std::process::Command;

fn pkg_config() -> Option<String> {
    let program = std::env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let said = Command::new(program).args(["--libs-only-L", "fixd"]).output().ok()?;
    String::from_utf8(said.stdout).ok().filter(|_| said.status.success())
}

fn main() {
    for variable in ["FIXD_LIB_DIR", "PKG_CONFIG", "PKG_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    match std::env::var("FIXD_LIB_DIR") {
        Ok(directory) => println!("cargo:rustc-link-search=native={directory}"),
        Err(_) => {
            for directory in pkg_config().unwrap_or_default().split_whitespace() {
                println!("cargo:rustc-link-search=native={}", directory.trim_start_matches("-L"));
            }
        }
    }
    println!("cargo:rustc-link-lib=dylib=fixd");
}
