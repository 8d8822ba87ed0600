//! Bad input through the program: what it says, how it ends, and that good rows beside bad ones still come out.
//!
//! Snapshots show every message in full, so that a change of wording is a change that someone has read.

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use common::Workspace;
use encoding_rs::GB18030;
use insta::{Settings, assert_snapshot};
use medscenario::bundle::{HEAD, MANIFEST};
use medscenario::taxonomy::Taxonomy;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use rust_xlsxwriter::{ExcelDateTime, Format, Formula, Workbook, Worksheet};

/// A taxonomy with two scenarios, one of which borders on the other.
const TINY: &str = r#"
format = 1
id = "tiny"
version = "1"
title = { zh = "小", en = "Tiny" }
section = [{ id = 1, name = { zh = "部", en = "Section" } }]
category = [{ id = 1, section = 1, name = { zh = "类", en = "Category" } }]
[[scenario]]
id = 1
category = 1
name = { zh = "导诊", en = "Triage" }
[[scenario]]
id = 2
category = 1
name = { zh = "随访", en = "Follow-up after triage" }
excludes = [{ neighbour = 1, zh = "分诊归导诊", en = "Sorting patients is triage" }]
"#;

/// A workbook of one sheet, as bytes.
fn workbook(fill: impl FnOnce(&mut Worksheet)) -> Vec<u8> {
    let mut book = Workbook::new();
    fill(book.add_worksheet());
    book.save_to_buffer().expect("memory holds a workbook")
}

/// Writes a row of texts; empty ones leave their cell out.
fn texts(sheet: &mut Worksheet, row: u32, cells: &[&str]) {
    for (column, cell) in (0..).zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        sheet.write_string(row, column, *cell).expect("the cell is in the sheet");
    }
}

/// A Parquet file with columns `id` and `text`, in row groups of 1,024 rows, as bytes.
fn parquet(ids: Vec<String>, text: ArrayRef) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(StringArray::from(ids));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("text", text, true)]).expect("equal lengths");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1024)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a plain schema");
    writer.write(&batch).expect("memory holds the table");
    writer.close().expect("memory holds the table");
    bytes
}

/// A ZIP archive of uncompressed files, as bytes.
fn stored_archive(files: &[(&str, String)]) -> Vec<u8> {
    let checksum = |bytes: &[u8]| {
        let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        !bytes.iter().fold(u32::MAX, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| step(sum)))
    };
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut entry = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        entry.extend(checksum(content.as_bytes()).to_le_bytes());
        entry.extend([(content.len() as u32).to_le_bytes(); 2].as_flattened());
        entry.extend((name.len() as u16).to_le_bytes());
        entry.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&entry);
        directory.extend([0; 10]);
        directory.extend((archive.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        archive.extend(b"PK\x03\x04");
        archive.extend(&entry);
        archive.extend(name.as_bytes());
        archive.extend(content.as_bytes());
    }
    let start = archive.len() as u32;
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([(files.len() as u16).to_le_bytes(); 2].as_flattened());
    archive.extend((directory.len() as u32).to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

fn default_bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default")
}

/// Copies the files of the default bundle into a directory.
fn copy_bundle(workspace: &Workspace, name: &str) {
    let source = default_bundle();
    let manifest = std::fs::read_to_string(source.join(MANIFEST)).expect("the default bundle has a manifest");
    let value: serde_json::Value = serde_json::from_str(&manifest).expect("a manifest is JSON");
    workspace.file(&format!("{name}/{MANIFEST}"), &manifest);
    for file in value["files"].as_object().expect("files and their hashes").keys() {
        let bytes = std::fs::read(source.join(file)).expect("the default bundle has the files of its manifest");
        workspace.file(&format!("{name}/{file}"), bytes);
    }
}

// Rows that are turned away.

#[test]
fn rows_without_text_or_id_are_turned_away() {
    let workspace = Workspace::new();
    let table = "id,text,city\n\
                 a,triages outpatients,Wuhan\n\
                 b,,Wuhan\n\
                 c,\"  \t \",Wuhan\n\
                 ,follows up after discharge,Wuhan\n\
                 \"  \",follows up after discharge,Wuhan\n\
                 d,writes discharge notes,\n";
    workspace.file("table.csv", table);
    assert_snapshot!(workspace.run("classify table.csv --errors bad.csv"), @r#"
    $ medscenario classify table.csv --errors bad.csv
    exit status 3, 2 lines out: a, d
    note: 2 records: [counts]
    warning: 4 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,3,text,no-text,the text is empty; expected a description
    table.csv,4,text,no-text,the text is empty; expected a description
    table.csv,5,id,no-id,"the id is empty; fill it in, or choose another column with --id-column"
    table.csv,6,id,no-id,"the id is empty; fill it in, or choose another column with --id-column"
    "#);
    let lines = "{\"id\":\"a\",\"text\":\"triages outpatients\"}\n\
                 {\"id\":\"b\"}\n\
                 {\"id\":\"c\",\"text\":null}\n\
                 {\"text\":\"follows up after discharge\"}\n\
                 {\"id\":\"d\",\"text\":\"writes notes\"}\n";
    workspace.file("table.jsonl", lines);
    assert_snapshot!(workspace.run("classify table.jsonl --errors bad.csv"), @r#"
    $ medscenario classify table.jsonl --errors bad.csv
    exit status 3, 2 lines out: a, d
    note: 2 records: [counts]
    warning: 3 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.jsonl,2,text,no-text,the text is empty; expected a description
    table.jsonl,3,text,no-text,the text is empty; expected a description
    table.jsonl,4,id,no-id,"the id is empty; fill it in, or choose another column with --id-column"
    "#);
}

#[test]
fn an_id_may_be_used_once_within_and_across_files() {
    let workspace = Workspace::new();
    workspace.file("first.csv", "id,text\n1,triages outpatients\n2,writes notes\n1,another text\n");
    workspace.file("second.csv", "id,text\n2,the id of the other file\n 1 ,blanks around the id\n3,follows up\n");
    assert_snapshot!(workspace.run("classify first.csv second.csv --errors bad.csv"), @r#"
    $ medscenario classify first.csv second.csv --errors bad.csv
    exit status 3, 3 lines out: 1, 2, 3
    note: 3 records: [counts]
    warning: 3 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    first.csv,4,id,duplicate-id,"id `1` was used before, at `first.csv` row 2; ids must be unique in a run"
    second.csv,2,id,duplicate-id,"id `2` was used before, at `first.csv` row 3; ids must be unique in a run"
    second.csv,3,id,duplicate-id,"id `1` was used before, at `first.csv` row 2; ids must be unique in a run"
    "#);
}

#[test]
fn broken_quoting_costs_the_row_and_not_the_file() {
    let workspace = Workspace::new();
    let table = "id,text\n\
                 1,\"closed\" and continued\n\
                 2,triages outpatients\n\
                 3,\"doubled \"\"marks\"\" are fine, as is\n\
                 a second line\"\n\
                 4,\"never closed\n\
                 5,writes notes\n";
    workspace.file("table.csv", table);
    assert_snapshot!(workspace.run("classify table.csv --errors bad.csv"), @r#"
    $ medscenario classify table.csv --errors bad.csv
    exit status 3, 3 lines out: 2, 3, 5
    note: 3 records: [counts]
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,2,text,text-after-quote,"text follows a closing quotation mark; expected the separator, or a doubled mark to mean itself"
    table.csv,6,text,open-quote,"a quotation mark is opened and never closed; close it, or double it to mean itself"
    "#);
}

#[test]
fn an_open_quote_before_a_quoted_row_costs_neither_that_row_nor_those_between() {
    let workspace = Workspace::new();
    let table = "id,text,remark\n\
                 1,\"never closed,x\n\
                 2,triages outpatients,x\n\
                 3,writes notes,x\n\
                 4,\"quoted, and fine\",\"y\"\n\
                 5,follows up,x\n";
    workspace.file("table.csv", table);
    // The later row may be wrong too, or open another mark.
    workspace.file("wrong.csv", table.replace("\"quoted, and fine\"", "\"quoted\" and more"));
    let another = "id,text,remark\n1,\"never closed,x\n2,\",second,\"third\" more\n3,writes notes,x\n";
    workspace.file("another.csv", another);
    assert_snapshot!(workspace.run_all(&[
        "classify table.csv --errors bad.csv",
        "classify wrong.csv --errors bad.csv",
        "classify another.csv --errors bad.csv",
    ]), @r#"
    $ medscenario classify table.csv --errors bad.csv
    exit status 3, 4 lines out: 2, 3, 4, 5
    note: 4 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,2,text,open-quote,"a quotation mark is opened and never closed; close it, or double it to mean itself"

    $ medscenario classify wrong.csv --errors bad.csv
    exit status 3, 3 lines out: 2, 3, 5
    note: 3 records: [counts]
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    wrong.csv,2,text,open-quote,"a quotation mark is opened and never closed; close it, or double it to mean itself"
    wrong.csv,5,text,text-after-quote,"text follows a closing quotation mark; expected the separator, or a doubled mark to mean itself"

    $ medscenario classify another.csv --errors bad.csv
    exit status 3, 1 line out: 3
    note: 1 record: [counts]
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    another.csv,2,text,open-quote,"a quotation mark is opened and never closed; close it, or double it to mean itself"
    another.csv,3,text,text-after-quote,"text follows a closing quotation mark; expected the separator, or a doubled mark to mean itself"
    "#);
}

#[test]
fn rows_with_another_number_of_fields_are_turned_away() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triages, and follows up\n2\n3,writes notes\n");
    workspace.file("table.tsv", "id\ttext\n1\ttriages\tand follows up\n2\twrites, and files, notes\n");
    assert_snapshot!(workspace.run("classify table.csv table.tsv --id-column id --errors bad.csv"), @r#"
    $ medscenario classify table.csv table.tsv --id-column id --errors bad.csv
    exit status 3, 2 lines out: 3, 2
    note: 2 records: [counts]
    warning: 3 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,2,,field-count,"3 fields where the header has 2; quote fields that contain the separator, and name every column in the header"
    table.csv,3,,field-count,"1 field where the header has 2; give every column a field, even an empty one"
    table.tsv,2,,field-count,"3 fields where the header has 2; quote fields that contain the separator, and name every column in the header"
    "#);
}

#[test]
fn a_table_in_jsonl_may_have_bad_lines() {
    let workspace = Workspace::new();
    let lines = "{\"id\":\"1\",\"text\":\"triages outpatients\"}\n\
                 {\"id\":\"2\",\"text\":\"cut off\n\
                 [\"3\",\"a list\"]\n\
                 \"4\"\n\
                 {\"id\":\"5\",\"text\":\"a missing brace\"\n\
                 {\"id\":\"6\" \"text\":\"a missing comma\"}\n\
                 {'id':'7','text':'single marks'}\n\
                 {\"id\":\"8\",\"text\":\"half a pair \\ud83d\"}\n\
                 \n\
                 {\"id\":9,\"text\":\"a number as id is fine\"}\n";
    workspace.file("table.jsonl", lines);
    assert_snapshot!(workspace.run("classify table.jsonl --errors bad.csv"), @r#"
    $ medscenario classify table.jsonl --errors bad.csv
    exit status 3, 2 lines out: 1, 9
    note: 2 records: [counts]
    warning: 7 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.jsonl,2,,invalid-json,not a JSON object: EOF while parsing a string at column 25; expected one object a line
    table.jsonl,3,,invalid-json,"not a JSON object: invalid type: sequence, expected a map at column 0; expected one object a line"
    table.jsonl,4,,invalid-json,"not a JSON object: invalid type: string ""4"", expected a map at column 3; expected one object a line"
    table.jsonl,5,,invalid-json,not a JSON object: EOF while parsing an object at column 34; expected one object a line
    table.jsonl,6,,invalid-json,"not a JSON object: expected `,` or `}` at column 11; expected one object a line"
    table.jsonl,7,,invalid-json,not a JSON object: key must be a string at column 2; expected one object a line
    table.jsonl,8,,invalid-json,not a JSON object: unexpected end of hex escape at column 37; expected one object a line
    "#);
}

#[test]
fn a_bad_first_line_of_a_jsonl_table_is_one_rejection() {
    let workspace = Workspace::new();
    let good = "{\"id\":\"1\",\"text\":\"triages outpatients\"}\n{\"id\":\"2\",\"text\":\"writes notes\"}\n";
    workspace.file("table.jsonl", format!("{{\"id\":\"0\",\"text\":\"cut off\n{good}"));
    assert_snapshot!(workspace.run("classify table.jsonl --errors bad.csv"), @"
    $ medscenario classify table.jsonl --errors bad.csv
    exit status 3, 2 lines out: 1, 2
    note: 2 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.jsonl,1,,invalid-json,not a JSON object: EOF while parsing a string at column 25; expected one object a line
    ");
}

#[test]
fn the_text_of_a_jsonl_table_must_be_text() {
    let workspace = Workspace::new();
    let lines = "{\"id\":\"1\",\"text\":\"triages outpatients\"}\n\
                 {\"id\":\"2\",\"text\":12}\n\
                 {\"id\":\"3\",\"text\":true}\n\
                 {\"id\":\"4\",\"text\":[\"a\",\"b\"]}\n\
                 {\"id\":\"5\",\"text\":{\"zh\":\"a\"}}\n\
                 {\"id\":\"6\",\"text\":\"writes notes\"}\n";
    workspace.file("table.jsonl", lines);
    assert_snapshot!(workspace.run("classify table.jsonl --errors bad.csv"), @r#"
    $ medscenario classify table.jsonl --errors bad.csv
    exit status 3, 2 lines out: 1, 6
    note: 2 records: [counts]
    warning: 4 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.jsonl,2,text,wrong-type,"expected text, found a number; correct it, or choose another column"
    table.jsonl,3,text,wrong-type,"expected text, found true or false; correct it, or choose another column"
    table.jsonl,4,text,wrong-type,"expected text, found a list; correct it, or choose another column"
    table.jsonl,5,text,wrong-type,"expected text, found an object; correct it, or choose another column"
    "#);
}

#[test]
fn the_text_of_a_workbook_must_be_text() {
    let workspace = Workspace::new();
    let bytes = workbook(|sheet| {
        texts(sheet, 0, &["id", "text"]);
        texts(sheet, 1, &["1", "triages outpatients"]);
        texts(sheet, 2, &["2"]);
        sheet.write_number(2, 1, 12.5).expect("in the sheet");
        texts(sheet, 3, &["3"]);
        sheet.write_boolean(3, 1, true).expect("in the sheet");
        texts(sheet, 4, &["4"]);
        let day = ExcelDateTime::from_ymd(2024, 11, 14).expect("a date");
        let format = Format::new().set_num_format("yyyy-mm-dd");
        sheet.write_datetime_with_format(4, 1, &day, &format).expect("in the sheet");
        texts(sheet, 5, &["5"]);
        sheet.write_formula(5, 1, Formula::new("=1/0").set_result("#DIV/0!")).expect("in the sheet");
        sheet.write_formula(6, 0, Formula::new("=A99").set_result("#REF!")).expect("in the sheet");
        texts(sheet, 6, &["", "the id is an error"]);
        texts(sheet, 7, &["7", "more cells", "than the header names"]);
        texts(sheet, 9, &["8", "a blank row above is fine"]);
    });
    workspace.file("table.xlsx", bytes);
    assert_snapshot!(workspace.run("classify table.xlsx --errors bad.csv"), @r#"
    $ medscenario classify table.xlsx --errors bad.csv
    exit status 3, 2 lines out: 1, 8
    note: 2 records: [counts]
    warning: 6 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.xlsx,3,text,wrong-type,"expected text, found a number; correct it, or choose another column"
    table.xlsx,4,text,wrong-type,"expected text, found true or false; correct it, or choose another column"
    table.xlsx,5,text,wrong-type,"expected text, found a date; correct it, or choose another column"
    table.xlsx,6,text,wrong-type,"expected text, found the spreadsheet error #DIV/0!; correct it, or choose another column"
    table.xlsx,7,id,wrong-type,"expected text, found the spreadsheet error #REF!; correct it, or choose another column"
    table.xlsx,8,,field-count,"3 fields where the header has 2; quote fields that contain the separator, and name every column in the header"
    "#);
}

#[test]
fn a_cell_below_a_nameless_header_counts_as_a_field_too_many() {
    let workspace = Workspace::new();
    workspace.file(
        "table.xlsx",
        workbook(|sheet| {
            texts(sheet, 0, &["id", "", "text"]);
            texts(sheet, 1, &["1", "stray", "triages outpatients"]);
            texts(sheet, 2, &["2", "", "writes notes"]);
        }),
    );
    assert_snapshot!(workspace.run("classify table.xlsx --errors bad.csv"), @r#"
    $ medscenario classify table.xlsx --errors bad.csv
    exit status 3, 1 line out: 2
    note: 1 record: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.xlsx,2,,field-count,"3 fields where the header has 2; quote fields that contain the separator, and name every column in the header"
    "#);
}

#[test]
fn the_text_of_a_parquet_table_must_be_text() {
    let workspace = Workspace::new();
    let ids = || vec!["1".to_owned(), "2".to_owned()];
    workspace.file("numbers.parquet", parquet(ids(), Arc::new(Int64Array::from(vec![Some(7), None]))));
    let text = StringArray::from(vec![None, Some("triages outpatients")]);
    workspace.file("gaps.parquet", parquet(ids(), Arc::new(text)));
    assert_snapshot!(workspace.run_all(&[
        "classify numbers.parquet --errors bad.csv",
        "classify gaps.parquet --errors bad.csv",
    ]), @r#"
    $ medscenario classify numbers.parquet --errors bad.csv
    exit status 3, no output
    note: 0 records: [counts]
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    numbers.parquet,1,text,wrong-type,"expected text, found a number; correct it, or choose another column"
    numbers.parquet,2,text,no-text,the text is empty; expected a description

    $ medscenario classify gaps.parquet --errors bad.csv
    exit status 3, 1 line out: 2
    note: 1 record: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    gaps.parquet,1,text,no-text,the text is empty; expected a description
    "#);
}

#[test]
fn long_texts_are_turned_away_or_cut() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triage\n2,分诊预问诊病历生成随访\n3,分诊预问诊病历\n");
    assert_snapshot!(workspace.run_all(&[
        "classify table.csv --max-chars 8 --errors bad.csv",
        "classify table.csv --max-chars 8 --errors bad.csv --long-text truncate",
    ]), @r#"
    $ medscenario classify table.csv --max-chars 8 --errors bad.csv
    exit status 3, 2 lines out: 1, 3
    note: 2 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,3,text,too-long,"11 characters, more than the limit of 8; raise --max-chars or use --long-text truncate"

    $ medscenario classify table.csv --max-chars 8 --errors bad.csv --long-text truncate
    exit status 0, 3 lines out: 1, 2 (cut), 3
    note: 3 records: [counts]
    --- bad.csv ---
    file,row,column,code,reason
    "#);
}

#[test]
fn a_line_of_many_megabytes_is_skipped() {
    let workspace = Workspace::new();
    let long = "a".repeat((16 << 20) + 1);
    workspace.file("lines.txt", format!("triages outpatients\n{long}\nwrites notes\n"));
    workspace.file("table.csv", format!("text\ntriages outpatients\n{long}\nwrites notes\n"));
    workspace.file(
        "table.jsonl",
        format!("{{\"text\":\"triages\"}}\n{{\"text\":\"{long}\"}}\n{{\"text\":\"writes notes\"}}\n"),
    );
    assert_snapshot!(workspace.run("classify lines.txt table.csv table.jsonl --errors bad.csv"), @r#"
    $ medscenario classify lines.txt table.csv table.jsonl --errors bad.csv
    exit status 3, 6 lines out: lines.txt:1, lines.txt:3, table.csv:1, table.csv:3, table.jsonl:1, table.jsonl:3
    note: 6 records: [counts]
    warning: 3 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    lines.txt,2,,too-long,"the line is longer than 16777216 bytes; break it up, or shorten it"
    table.csv,3,,too-long,"the line is longer than 16777216 bytes; break it up, or shorten it"
    table.jsonl,2,,too-long,"the line is longer than 16777216 bytes; break it up, or shorten it"
    "#);
}

#[test]
fn bytes_that_are_no_text_cost_one_row() {
    let workspace = Workspace::new();
    let mut damaged = "编号,描述\n1,面向门诊的导诊和预问诊\n2,出院随访".as_bytes().to_vec();
    damaged.extend(b"\xff\xfe\n3,");
    damaged.extend("病历生成\n".as_bytes());
    workspace.file("utf-8.csv", damaged);
    let mut damaged = GB18030.encode("编号,描述\n1,面向门诊的导诊和预问诊\n2,出院随访").0.into_owned();
    damaged.extend(b"\xff\n3,");
    damaged.extend(GB18030.encode("病历生成\n").0.iter());
    workspace.file("gb18030.csv", damaged);
    workspace.file("replaced.csv", "编号,描述\n1,导诊\u{fffd}\u{fffd}\n2,病历生成\n");
    let lines =
        b"{\"id\":\"1\",\"text\":\"triages\"}\n{\"id\":\"2\",\"text\":\"bro\xffken\"}\n{\"id\":\"3\xff\n".as_slice();
    workspace.file("utf-8.jsonl", lines);
    assert_snapshot!(workspace.run_all(&[
        "classify utf-8.csv --errors bad.csv",
        "classify gb18030.csv --errors bad.csv",
        "classify gb18030.csv --encoding gb18030 --errors bad.csv",
        "classify replaced.csv --errors bad.csv",
        "classify utf-8.jsonl --errors bad.csv",
    ]), @r#"
    $ medscenario classify utf-8.csv --errors bad.csv
    exit status 3, 2 lines out: 1, 3
    note: 2 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    utf-8.csv,3,描述,undecodable,"bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row"

    $ medscenario classify gb18030.csv --errors bad.csv
    exit status 3, 2 lines out: 1, 3
    note: 2 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    gb18030.csv,3,描述,undecodable,"bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row"

    $ medscenario classify gb18030.csv --encoding gb18030 --errors bad.csv
    exit status 3, 2 lines out: 1, 3
    note: 2 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    gb18030.csv,3,描述,undecodable,"bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row"

    $ medscenario classify replaced.csv --errors bad.csv
    exit status 3, 1 line out: 2
    note: 1 record: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    replaced.csv,2,描述,undecodable,"bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row"

    $ medscenario classify utf-8.jsonl --errors bad.csv
    exit status 3, 1 line out: 1
    note: 1 record: [counts]
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    utf-8.jsonl,2,text,undecodable,"bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row"
    utf-8.jsonl,3,,undecodable,"bytes that are not text in the file's encoding, or U+FFFD in their place; check --encoding, or repair the row"
    "#);
}

#[test]
fn a_stray_zero_byte_leaves_a_table_in_its_encoding() {
    let workspace = Workspace::new();
    let table = "编号,描述\n1,面向门诊的导诊\n2,出院\u{0}随访\n3,病历生成\n";
    // At an even and at an odd offset: either half of a character of UTF-16.
    workspace.file("even.csv", table).file("odd.csv", format!("{table}4,门诊\n").replace("2,", "22,"));
    let at = |name: &str| {
        let bytes = std::fs::read(workspace.path(name)).expect("just written");
        bytes.iter().position(|&byte| byte == 0).expect("there is one") % 2
    };
    assert_ne!(at("even.csv"), at("odd.csv"));
    assert_snapshot!(workspace.run_all(&["classify even.csv", "classify odd.csv"]), @"
    $ medscenario classify even.csv
    exit status 0, 3 lines out: 1, 2, 3
    note: 3 records: [counts]

    $ medscenario classify odd.csv
    exit status 0, 4 lines out: 1, 22, 3, 4
    note: 4 records: [counts]
    ");
}

#[test]
fn a_parquet_file_that_breaks_off_inside_gives_the_rows_before() {
    let workspace = Workspace::new();
    let ids: Vec<String> = (1..=1500).map(|id| id.to_string()).collect();
    let text = StringArray::from(vec!["triages outpatients"; ids.len()]);
    let mut bytes = parquet(ids, Arc::new(text));
    workspace.file("damaged.parquet", &bytes);
    let whole = File::open(workspace.path("damaged.parquet")).expect("just written");
    let reader = SerializedFileReader::new(whole).expect("not yet damaged");
    let (start, length) = reader.metadata().row_group(1).column(0).byte_range();
    bytes[start as usize..(start + length) as usize].fill(0xff);
    workspace.file("damaged.parquet", bytes);
    assert_snapshot!(workspace.run("classify damaged.parquet --errors bad.csv"), @r#"
    $ medscenario classify damaged.parquet --errors bad.csv
    exit status 3, 1024 lines out
    note: 1024 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    damaged.parquet,1025,,unreadable,"the rest of the file cannot be read: Parquet argument error: Parquet error: Unexpected struct field type 15; repair the file, or save it again"
    "#);
}

#[test]
fn a_workbook_that_breaks_off_inside_gives_the_rows_before() {
    let workspace = Workspace::new();
    let rows = 3000;
    let mut bytes = workbook(|sheet| {
        texts(sheet, 0, &["id", "text"]);
        (1..=rows).for_each(|row| texts(sheet, row, &[&format!("id-{row}"), "triages outpatients"]));
    });
    // The compressed sheet lies between its own header in the archive and the next one.
    let find = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted);
    let name = b"xl/worksheets/sheet1.xml";
    let start = find(&bytes, name).expect("the archive names the sheet") + name.len();
    let length = find(&bytes[start..], b"PK").expect("something follows the sheet");
    bytes[start + length / 2..start + length].fill(0xff);
    workspace.file("damaged.xlsx", bytes);
    // Where the damage is noticed, and in what words, depends on buffers of the archive reader.
    let mut settings = Settings::clone_current();
    settings.add_filter(r"\b[1-9]\d{2,3} (lines|records)", "[many] $1");
    settings.add_filter(r"damaged.xlsx,\d+,(.*)`: .*; repair", "damaged.xlsx,[row],$1`: [cause]; repair");
    let _filters = settings.bind_to_scope();
    assert_snapshot!(workspace.run("classify damaged.xlsx --errors bad.csv"), @r#"
    $ medscenario classify damaged.xlsx --errors bad.csv
    exit status 3, [many] lines out
    note: [many] records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    damaged.xlsx,[row],,unreadable,"the rest of the file cannot be read: sheet `Sheet1`: [cause]; repair the file, or save it again"
    "#);
}

#[test]
fn a_small_sheet_that_breaks_off_is_reported_in_every_run() {
    let workspace = Workspace::new();
    let cell = |at: &str, text: &str| format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let row = |number: u32, id: &str, text: &str| {
        let cells = cell(&format!("A{number}"), id) + &cell(&format!("B{number}"), text);
        format!("<row r=\"{number}\">{cells}</row>")
    };
    let rows = [
        row(1, "id", "text"),
        row(2, "1", "triages outpatients"),
        row(3, "2", "writes notes"),
        // Cut off inside the second cell of row 4.
        format!("<row r=\"4\">{}<c r=\"B4\" t=\"inlineStr\"><is><t>follows", cell("A4", "3")),
    ];
    let spreadsheet = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006/relationships";
    let parts = [
        (
            "_rels/.rels",
            format!(
                "<Relationships xmlns=\"{package}\"><Relationship Id=\"rId1\" Type=\"{office}/officeDocument\" \
                 Target=\"xl/workbook.xml\"/></Relationships>"
            ),
        ),
        (
            "xl/workbook.xml",
            format!(
                "<workbook xmlns=\"{spreadsheet}\" xmlns:r=\"{office}\"><sheets>\
                 <sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(
                "<Relationships xmlns=\"{package}\"><Relationship Id=\"rId1\" Type=\"{office}/worksheet\" \
                 Target=\"worksheets/sheet1.xml\"/></Relationships>"
            ),
        ),
        ("xl/worksheets/sheet1.xml", format!("<worksheet xmlns=\"{spreadsheet}\"><sheetData>{}", rows.concat())),
    ];
    workspace.file("damaged.xlsx", stored_archive(&parts));
    let found = workspace.run("classify damaged.xlsx --errors bad.csv");
    assert_snapshot!(found, @r#"
    $ medscenario classify damaged.xlsx --errors bad.csv
    exit status 3, 2 lines out: 1, 2
    note: 2 records: [counts]
    warning: 1 row was turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    damaged.xlsx,4,,unreadable,"the rest of the file cannot be read: sheet `Sheet1`: Unexpected end of xml, expecting '</t>'; repair the file, or save it again"
    "#);
    // Two threads take part: what is reported must not depend on which of them is faster.
    for _ in 1..20 {
        assert_eq!(workspace.run("classify damaged.xlsx --errors bad.csv"), found);
    }
}

#[test]
fn without_a_report_the_first_ten_rows_are_named_and_the_rest_counted() {
    let workspace = Workspace::new();
    let bad: String = (1..=12).map(|id| format!("{id},\n")).collect();
    workspace.file("table.csv", format!("id,text\n{bad}13,triages outpatients\n"));
    assert_snapshot!(workspace.run_all(&["classify table.csv", "classify table.csv --quiet"]), @"
    $ medscenario classify table.csv
    exit status 3, 1 line out: 13
    warning: `table.csv` row 2, column `text`: the text is empty; expected a description
    warning: `table.csv` row 3, column `text`: the text is empty; expected a description
    warning: `table.csv` row 4, column `text`: the text is empty; expected a description
    warning: `table.csv` row 5, column `text`: the text is empty; expected a description
    warning: `table.csv` row 6, column `text`: the text is empty; expected a description
    warning: `table.csv` row 7, column `text`: the text is empty; expected a description
    warning: `table.csv` row 8, column `text`: the text is empty; expected a description
    warning: `table.csv` row 9, column `text`: the text is empty; expected a description
    warning: `table.csv` row 10, column `text`: the text is empty; expected a description
    warning: `table.csv` row 11, column `text`: the text is empty; expected a description
    note: 1 record: [counts]
    warning: 12 rows were turned away; use --errors FILE for a report

    $ medscenario classify table.csv --quiet
    exit status 3, 1 line out: 13
    ");
}

#[test]
fn survey_and_embed_turn_rows_away_too() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triages outpatients\n1,writes notes\n2,\n");
    assert_snapshot!(workspace.run_all(&[
        "survey table.csv --errors bad.csv --output frequencies.txt",
        "model embed table.csv --errors bad.csv",
    ]), @r#"
    $ medscenario survey table.csv --errors bad.csv --output frequencies.txt
    exit status 3, no output
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,3,id,duplicate-id,"id `1` was used before, at `table.csv` row 2; ids must be unique in a run"
    table.csv,4,text,no-text,the text is empty; expected a description

    $ medscenario model embed table.csv --errors bad.csv
    exit status 3, 1 line out: 1
    warning: 2 rows were turned away; see `bad.csv`
    --- bad.csv ---
    file,row,column,code,reason
    table.csv,3,id,duplicate-id,"id `1` was used before, at `table.csv` row 2; ids must be unique in a run"
    table.csv,4,text,no-text,the text is empty; expected a description
    "#);
}

// Inputs that cannot be opened.

#[test]
fn inputs_that_are_not_there_are_named() {
    let workspace = Workspace::new();
    workspace.file("tables/a.csv", "id,text\n1,triages outpatients\n");
    workspace.file("b.csv", "id,text\n1,triages outpatients\n");
    let absolute = workspace.path("missing.csv").display().to_string();
    assert_snapshot!(workspace.run_all(&[
        "classify missing.csv",
        &format!("classify {absolute}"),
        "classify tables",
        "classify tables/*.xlsx",
        "classify tables/[a.csv",
        "classify tables/***/a.csv",
        "classify b.csv tables/a.csv b.csv",
        "classify b.csv missing.csv --errors bad.csv",
    ]), @"
    $ medscenario classify missing.csv
    exit status 1, no output
    error: Failed to open `missing.csv`
      Caused by: No such file or directory (os error [N])

    $ medscenario classify [directory]/missing.csv
    exit status 1, no output
    error: Failed to open `[directory]/missing.csv`
      Caused by: No such file or directory (os error [N])

    $ medscenario classify tables
    exit status 1, no output
    error: Failed to open `tables`
      Caused by: it is a directory; name files, or a pattern such as `directory/*.csv`

    $ medscenario classify 'tables/*.xlsx'
    exit status 1, no output
    error: No file matches `tables/*.xlsx`; check directory and extension, or name a file

    $ medscenario classify 'tables/[a.csv'
    exit status 1, no output
    error: `tables/[a.csv` is not a valid file pattern: Pattern syntax error near position 7: invalid range pattern

    $ medscenario classify 'tables/***/a.csv'
    exit status 1, no output
    error: `tables/***/a.csv` is not a valid file pattern: Pattern syntax error near position 9: wildcards are either regular `*` or recursive `**`

    $ medscenario classify b.csv tables/a.csv b.csv
    exit status 1, no output
    error: `b.csv` is named twice; name each input once

    $ medscenario classify b.csv missing.csv --errors bad.csv
    exit status 1, no output
    error: Failed to open `missing.csv`
      Caused by: No such file or directory (os error [N])
    --- bad.csv ---
    no report
    ");
}

#[test]
fn formats_and_encodings_that_cannot_be_told_are_named() {
    let workspace = Workspace::new();
    workspace.file("table.xls", "id,text\n1,triages outpatients\n");
    workspace.file("table", "id,text\n1,triages outpatients\n");
    workspace.file("table.csv", "id,text\n1,triages outpatients\n");
    workspace.file("gb18030.csv", GB18030.encode("编号,描述\n1,导诊\n").0);
    assert_snapshot!(workspace.run_all(&[
        "classify table.xls",
        "classify table",
        "classify table.csv --encoding klingon",
        "classify gb18030.csv --encoding utf-8",
        "classify table.csv --delimiter ，",
        "classify table.csv --delimiter ;;",
        "classify table.csv --input-format docx",
    ]), @"
    $ medscenario classify table.xls
    exit status 1, no output
    error: Cannot tell the format of `table.xls`; expected .csv, .tsv, .jsonl, .xlsx, .parquet or .txt, or --input-format

    $ medscenario classify table
    exit status 1, no output
    error: Cannot tell the format of `table`; expected .csv, .tsv, .jsonl, .xlsx, .parquet or .txt, or --input-format

    $ medscenario classify table.csv --encoding klingon
    exit status 1, no output
    error: Unknown encoding `klingon`; expected a label such as utf-8, gb18030 or utf-16le

    $ medscenario classify gb18030.csv --encoding utf-8
    exit status 1, no output
    error: `gb18030.csv` has no text column; its columns are: `���`, `����`; check --encoding

    $ medscenario classify table.csv --delimiter ，
    exit status 1, no output
    error: Failed to read `table.csv`: the separator `，` is not an ASCII character; expected one such as `,`, `;` or a tab

    $ medscenario classify table.csv --delimiter ';;'
    exit status 2, no output
    error: invalid value ';;' for '--delimiter <DELIMITER>': too many characters in string

    For more information, try '--help'.

    $ medscenario classify table.csv --input-format docx
    exit status 2, no output
    error: invalid value 'docx' for '--input-format <INPUT_FORMAT>'
      [possible values: csv, tsv, jsonl, xlsx, parquet, txt]

    For more information, try '--help'.
    ");
}

#[test]
fn headers_must_name_every_column_once_and_one_for_the_text() {
    let workspace = Workspace::new();
    workspace.file("empty.csv", "");
    workspace.file("blank.csv", "\n\n");
    workspace.file("nameless.csv", "id,,text\n1,,triages\n");
    workspace.file("twice.csv", "id,text,text\n1,triages,writes\n");
    workspace.file("spaces.csv", "id,text, text \n1,triages,writes\n");
    workspace.file("empty.jsonl", "\n");
    workspace.file("bad.jsonl", "{\"text\":\n[\"a list\"]\n");
    workspace.file("open.csv", "id,\"text\n1,triages\n");
    workspace.file("none.csv", "number,remark\n1,triages\n");
    workspace.file("none.jsonl", "{\"number\":1,\"remark\":\"triages\"}\n");
    assert_snapshot!(workspace.run_all(&[
        "classify empty.csv",
        "classify blank.csv",
        "classify nameless.csv",
        "classify twice.csv",
        "classify spaces.csv",
        "classify empty.jsonl",
        "classify bad.jsonl",
        "classify open.csv",
        "classify none.csv",
        "classify none.jsonl",
        "classify none.csv --text-column note",
        "classify none.csv --text-column remark --id-column key",
        "classify none.csv --text-column remark --name-column title",
    ]), @"
    $ medscenario classify empty.csv
    exit status 1, no output
    error: Failed to read `empty.csv`: the file is empty; expected a header row with column names

    $ medscenario classify blank.csv
    exit status 1, no output
    error: Failed to read `blank.csv`: the file is empty; expected a header row with column names

    $ medscenario classify nameless.csv
    exit status 1, no output
    error: Failed to read `nameless.csv`: column 2 has no name in the header row; name every column

    $ medscenario classify twice.csv
    exit status 1, no output
    error: Failed to read `twice.csv`: column name `text` occurs twice in the header row; rename one

    $ medscenario classify spaces.csv
    exit status 1, no output
    error: Failed to read `spaces.csv`: column name `text` occurs twice in the header row; rename one

    $ medscenario classify empty.jsonl
    exit status 1, no output
    error: Failed to read `empty.jsonl`: the file is empty; expected one JSON object a line

    $ medscenario classify bad.jsonl
    exit status 1, no output
    error: Failed to read `bad.jsonl`: none of its lines is a JSON object; expected one object a line

    $ medscenario classify open.csv
    exit status 1, no output
    error: Failed to read `open.csv`: the header row is broken: a quotation mark is opened and never closed; close it, or double it to mean itself

    $ medscenario classify none.csv
    exit status 1, no output
    error: `none.csv` has no text column; its columns are: `number`, `remark`; name it with --text-column

    $ medscenario classify none.jsonl
    exit status 1, no output
    error: `none.jsonl` has no text column; its columns are: `number`, `remark`; name it with --text-column

    $ medscenario classify none.csv --text-column note
    exit status 1, no output
    error: `none.csv` has no `note` (text) column; its columns are: `number`, `remark`

    $ medscenario classify none.csv --text-column remark --id-column key
    exit status 1, no output
    error: `none.csv` has no `key` (id) column; its columns are: `number`, `remark`

    $ medscenario classify none.csv --text-column remark --name-column title
    exit status 1, no output
    error: `none.csv` has no `title` (name) column; its columns are: `number`, `remark`
    ");
}

#[test]
fn workbooks_that_cannot_be_read_are_named() {
    let workspace = Workspace::new();
    let good = workbook(|sheet| {
        sheet.set_name("Products").expect("a short name");
        texts(sheet, 0, &["id", "text"]);
        texts(sheet, 1, &["1", "triages outpatients"]);
    });
    workspace.file("truncated.xlsx", &good[..good.len() / 2]);
    workspace.file("good.xlsx", good);
    workspace.file("renamed.xlsx", "id,text\n1,triages outpatients\n");
    workspace.file("empty.xlsx", "");
    workspace.file("blank.xlsx", workbook(|_| {}));
    workspace.file("twice.xlsx", workbook(|sheet| texts(sheet, 0, &["text", "text"])));
    workspace.file("none.xlsx", workbook(|sheet| texts(sheet, 0, &["number", "remark"])));
    assert_snapshot!(workspace.run_all(&[
        "classify truncated.xlsx",
        "classify renamed.xlsx",
        "classify empty.xlsx",
        "classify blank.xlsx",
        "classify twice.xlsx",
        "classify none.xlsx",
        "classify good.xlsx --sheet Services",
    ]), @"
    $ medscenario classify truncated.xlsx
    exit status 1, no output
    error: Failed to read `truncated.xlsx`: not a readable XLSX workbook: Zip error: invalid Zip archive: Could not find EOCD; save it again, or check --input-format

    $ medscenario classify renamed.xlsx
    exit status 1, no output
    error: Failed to read `renamed.xlsx`: not a readable XLSX workbook: Zip error: invalid Zip archive: Could not find EOCD; save it again, or check --input-format

    $ medscenario classify empty.xlsx
    exit status 1, no output
    error: Failed to read `empty.xlsx`: not a readable XLSX workbook: Zip error: invalid Zip archive: Could not find EOCD; save it again, or check --input-format

    $ medscenario classify blank.xlsx
    exit status 1, no output
    error: Failed to read `blank.xlsx`: sheet `Sheet1` is empty; expected a header row with column names

    $ medscenario classify twice.xlsx
    exit status 1, no output
    error: Failed to read `twice.xlsx`: column name `text` occurs twice in the header row; rename one

    $ medscenario classify none.xlsx
    exit status 1, no output
    error: `none.xlsx` has no text column; its columns are: `number`, `remark`; name it with --text-column

    $ medscenario classify good.xlsx --sheet Services
    exit status 1, no output
    error: Failed to read `good.xlsx`: it has no sheet `Services`; its sheets are: Products
    ");
}

#[test]
fn parquet_files_that_cannot_be_read_are_named() {
    let workspace = Workspace::new();
    let good = parquet(vec!["1".to_owned()], Arc::new(StringArray::from(vec!["triages outpatients"])));
    workspace.file("truncated.parquet", &good[..good.len() / 2]);
    workspace.file("good.parquet", good);
    workspace.file("renamed.parquet", "id,text\n1,triages outpatients\n");
    workspace.file("empty.parquet", "");
    workspace.file("twice.parquet", {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["triages outpatients"]));
        let field = Field::new("text", DataType::Utf8, false);
        let schema = Schema::new(vec![field.clone(), field]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(&column), column]).expect("equal lengths");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a plain schema");
        writer.write(&batch).expect("memory holds the table");
        writer.close().expect("memory holds the table");
        bytes
    });
    assert_snapshot!(workspace.run_all(&[
        "classify truncated.parquet",
        "classify renamed.parquet",
        "classify empty.parquet",
        "classify twice.parquet",
        "classify good.parquet --text-column remark",
    ]), @"
    $ medscenario classify truncated.parquet
    exit status 1, no output
    error: Failed to read `truncated.parquet`: not a readable Parquet file: Parquet error: Invalid Parquet file. Corrupt footer; write it again, or check --input-format

    $ medscenario classify renamed.parquet
    exit status 1, no output
    error: Failed to read `renamed.parquet`: not a readable Parquet file: Parquet error: Invalid Parquet file. Corrupt footer; write it again, or check --input-format

    $ medscenario classify empty.parquet
    exit status 1, no output
    error: Failed to read `empty.parquet`: not a readable Parquet file: EOF: Parquet file too small. Size is 0 but need 8; write it again, or check --input-format

    $ medscenario classify twice.parquet
    exit status 1, no output
    error: Failed to read `twice.parquet`: column name `text` occurs twice; rename one

    $ medscenario classify good.parquet --text-column remark
    exit status 1, no output
    error: `good.parquet` has no `remark` (text) column; its columns are: `id`, `text`
    ");
}

#[test]
fn standard_input_is_checked_like_a_file() {
    let workspace = Workspace::new();
    let run = |input: &[u8]| workspace.run_with(&["classify", "-"], input);
    let all = [
        run(b""),
        run(b"number,remark\n1,triages\n"),
        run(b"PAR1 and nothing else"),
        run(b"PK\x03\x04 and nothing else"),
        run(b"id,text\n1,triages outpatients\n2,\n"),
    ];
    assert_snapshot!(all.join("\n"), @"
    $ medscenario classify -
    exit status 1, no output
    error: Failed to read `-`: the file is empty; expected a header row with column names

    $ medscenario classify -
    exit status 1, no output
    error: `-` has no text column; its columns are: `number`, `remark`; name it with --text-column

    $ medscenario classify -
    exit status 1, no output
    error: Failed to read `-`: not a readable Parquet file: Parquet error: Invalid Parquet file. Corrupt footer; write it again, or check --input-format

    $ medscenario classify -
    exit status 1, no output
    error: Failed to read `-`: not a readable XLSX workbook: Zip error: invalid Zip archive: Could not find EOCD; save it again, or check --input-format

    $ medscenario classify -
    exit status 3, 1 line out: 1
    warning: `-` row 3, column `text`: the text is empty; expected a description
    note: 1 record: [counts]
    warning: 1 row was turned away; use --errors FILE for a report
    ");
}

// Commands.

#[test]
fn wrong_command_lines_end_with_status_2() {
    let workspace = Workspace::new();
    assert_snapshot!(workspace.run_all(&[
        "clasify table.csv",
        "classify",
        "classify table.csv --text-colum text",
        "classify table.csv --max-chars many",
        "classify table.csv --max-chars 0",
        "classify table.csv --jobs 0",
        "classify table.csv --batch-tokens 0",
        "classify table.csv --batch-tokens few",
        "classify table.csv --format docx",
        "classify table.csv --resume",
        "lookup",
        "lookup triage --lang fr",
        "eval",
        "eval gold.jsonl --resamples 0",
        "train labels.jsonl --output bundle",
        "train labels.jsonl --encoder encoder --output bundle --epochs 0",
        "train labels.jsonl --encoder encoder --output bundle --head-rate fast",
        "train labels.jsonl --encoder encoder --output bundle --head-rate nan",
        "train labels.jsonl --encoder encoder --output bundle --encoder-rate 0",
        "train labels.jsonl --encoder encoder --output bundle --encoder-rate inf",
        "taxonomy export --format owl",
    ]), @"
    $ medscenario clasify table.csv
    exit status 2, no output
    error: unrecognized subcommand 'clasify'

      tip: a similar subcommand exists: 'classify'

    Usage: medscenario [OPTIONS] <COMMAND>

    For more information, try '--help'.

    $ medscenario classify
    exit status 2, no output
    error: the following required arguments were not provided:
      <INPUTS>...

    Usage: medscenario classify <INPUTS>...

    For more information, try '--help'.

    $ medscenario classify table.csv --text-colum text
    exit status 2, no output
    error: unexpected argument '--text-colum' found

      tip: a similar argument exists: '--text-column'

    Usage: medscenario classify --text-column <TEXT_COLUMN> <INPUTS>...

    For more information, try '--help'.

    $ medscenario classify table.csv --max-chars many
    exit status 2, no output
    error: invalid value 'many' for '--max-chars <MAX_CHARS>': expected a whole number, 1 or more

    For more information, try '--help'.

    $ medscenario classify table.csv --max-chars 0
    exit status 2, no output
    error: invalid value '0' for '--max-chars <MAX_CHARS>': expected a whole number, 1 or more

    For more information, try '--help'.

    $ medscenario classify table.csv --jobs 0
    exit status 2, no output
    error: invalid value '0' for '--jobs <JOBS>': 0 is not in 1..=65535

    For more information, try '--help'.

    $ medscenario classify table.csv --batch-tokens 0
    exit status 2, no output
    error: invalid value '0' for '--batch-tokens <BATCH_TOKENS>': expected a whole number, 1 or more

    For more information, try '--help'.

    $ medscenario classify table.csv --batch-tokens few
    exit status 2, no output
    error: invalid value 'few' for '--batch-tokens <BATCH_TOKENS>': expected a whole number, 1 or more

    For more information, try '--help'.

    $ medscenario classify table.csv --format docx
    exit status 2, no output
    error: invalid value 'docx' for '--format <FORMAT>'
      [possible values: jsonl, csv, tsv, xlsx, parquet]

    For more information, try '--help'.

    $ medscenario classify table.csv --resume
    exit status 2, no output
    error: the following required arguments were not provided:
      --output <FILE>

    Usage: medscenario classify --output <FILE> --resume <INPUTS>...

    For more information, try '--help'.

    $ medscenario lookup
    exit status 2, no output
    error: the following required arguments were not provided:
      <TEXT>

    Usage: medscenario lookup <TEXT>

    For more information, try '--help'.

    $ medscenario lookup triage --lang fr
    exit status 2, no output
    error: invalid value 'fr' for '--lang <LANG>'
      [possible values: zh, en]

    For more information, try '--help'.

    $ medscenario eval
    exit status 2, no output
    error: the following required arguments were not provided:
      <LABELS>...

    Usage: medscenario eval <LABELS>...

    For more information, try '--help'.

    $ medscenario eval gold.jsonl --resamples 0
    exit status 2, no output
    error: invalid value '0' for '--resamples <RESAMPLES>': expected a whole number, 1 or more

    For more information, try '--help'.

    $ medscenario train labels.jsonl --output bundle
    exit status 2, no output
    error: the following required arguments were not provided:
      --encoder <ENCODER>

    Usage: medscenario train --encoder <ENCODER> --output <DIRECTORY> <LABELS>...

    For more information, try '--help'.

    $ medscenario train labels.jsonl --encoder encoder --output bundle --epochs 0
    exit status 2, no output
    error: invalid value '0' for '--epochs <EPOCHS>': expected a whole number, 1 or more

    For more information, try '--help'.

    $ medscenario train labels.jsonl --encoder encoder --output bundle --head-rate fast
    exit status 2, no output
    error: invalid value 'fast' for '--head-rate <HEAD_RATE>': expected a number between 0 and 1, such as 3e-4

    For more information, try '--help'.

    $ medscenario train labels.jsonl --encoder encoder --output bundle --head-rate nan
    exit status 2, no output
    error: invalid value 'nan' for '--head-rate <HEAD_RATE>': expected a number between 0 and 1, such as 3e-4

    For more information, try '--help'.

    $ medscenario train labels.jsonl --encoder encoder --output bundle --encoder-rate 0
    exit status 2, no output
    error: invalid value '0' for '--encoder-rate <ENCODER_RATE>': expected a number between 0 and 1, such as 3e-4

    For more information, try '--help'.

    $ medscenario train labels.jsonl --encoder encoder --output bundle --encoder-rate inf
    exit status 2, no output
    error: invalid value 'inf' for '--encoder-rate <ENCODER_RATE>': expected a number between 0 and 1, such as 3e-4

    For more information, try '--help'.

    $ medscenario taxonomy export --format owl
    exit status 2, no output
    error: invalid value 'owl' for '--format <FORMAT>'
      [possible values: skos, json, csv]

    For more information, try '--help'.
    ");
}

#[test]
fn outputs_that_cannot_be_written_are_named() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triages outpatients\n");
    assert_snapshot!(workspace.run_all(&[
        "classify table.csv --output coded.docx",
        "classify table.csv --output coded",
        "classify table.csv --output nowhere/coded.jsonl",
        "classify table.csv --errors nowhere/bad.csv",
        "survey table.csv --output nowhere/frequencies.csv",
    ]), @"
    $ medscenario classify table.csv --output coded.docx
    exit status 1, no output
    error: Cannot tell the format of `coded.docx`; expected .jsonl, .csv, .tsv, .xlsx or .parquet, or --format

    $ medscenario classify table.csv --output coded
    exit status 1, no output
    error: Cannot tell the format of `coded`; expected .jsonl, .csv, .tsv, .xlsx or .parquet, or --format

    $ medscenario classify table.csv --output nowhere/coded.jsonl
    exit status 1, no output
    error: Failed to start `nowhere/coded.jsonl`; its directory must be there and writable
      Caused by: Failed to use the journal `nowhere/coded.jsonl.partial`
      Caused by: No such file or directory (os error [N])

    $ medscenario classify table.csv --errors nowhere/bad.csv
    exit status 1, no output
    error: Failed to write the error report `nowhere/bad.csv`
      Caused by: No such file or directory (os error [N])
    --- nowhere/bad.csv ---
    no report

    $ medscenario survey table.csv --output nowhere/frequencies.csv
    exit status 1, no output
    error: Failed to write `nowhere/frequencies.csv`
      Caused by: No such file or directory (os error [N])
    ");
}

#[test]
fn inputs_and_results_are_not_written_over() {
    let workspace = Workspace::new();
    let table = "id,text\n1,triages outpatients\n2,\n";
    let gold = "{\"id\":\"g1\",\"text\":\"triages\",\"status\":\"coded\",\"scenarios\":[8]}\n";
    workspace.file("table.csv", table).file("other.csv", table).file("below/again.csv", table);
    workspace.file("gold.jsonl", gold).file("coded.jsonl", gold);
    let found = workspace.run_all(&[
        "classify table.csv --output table.csv",
        "classify table.csv other.csv --output ./other.csv",
        "classify table.csv --errors below/../table.csv",
        "classify below/*.csv --errors below/again.csv",
        "classify table.csv --output coded.csv --errors ./coded.csv",
        "survey table.csv --output table.csv",
        "survey table.csv --errors table.csv",
        "survey coded.jsonl --errors coded.jsonl",
        "survey table.csv --output new.csv --errors new.csv",
        "model embed table.csv --errors table.csv",
        "eval gold.jsonl --output gold.jsonl",
        "eval gold.jsonl --predictions coded.jsonl --output coded.jsonl",
    ]);
    for name in ["table.csv", "other.csv", "below/again.csv"] {
        assert_eq!(std::fs::read_to_string(workspace.path(name)).expect("it is still there"), table, "{name}");
    }
    for name in ["gold.jsonl", "coded.jsonl"] {
        assert_eq!(std::fs::read_to_string(workspace.path(name)).expect("it is still there"), gold, "{name}");
    }
    for name in ["coded.csv", "coded.csv.partial", "new.csv", "table.csv.partial"] {
        assert!(!workspace.path(name).exists(), "{name} was not begun");
    }
    // A link leads to the same file under another name.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(workspace.path("table.csv"), workspace.path("link.csv")).expect("a link");
        let refused = workspace.run("classify table.csv --output link.csv");
        assert!(refused.contains("`link.csv` is an input and would be overwritten"), "{refused}");
        assert_eq!(std::fs::read_to_string(workspace.path("table.csv")).expect("it is still there"), table);
    }
    assert_snapshot!(found, @r#"
    $ medscenario classify table.csv --output table.csv
    exit status 1, no output
    error: `table.csv` is an input and would be overwritten; choose another file

    $ medscenario classify table.csv other.csv --output ./other.csv
    exit status 1, no output
    error: `./other.csv` is an input and would be overwritten; choose another file

    $ medscenario classify table.csv --errors below/../table.csv
    exit status 1, no output
    error: `below/../table.csv` is an input and would be overwritten; choose another file
    --- below/../table.csv ---
    id,text
    1,triages outpatients
    2,

    $ medscenario classify 'below/*.csv' --errors below/again.csv
    exit status 1, no output
    error: `below/again.csv` is an input and would be overwritten; choose another file
    --- below/again.csv ---
    id,text
    1,triages outpatients
    2,

    $ medscenario classify table.csv --output coded.csv --errors ./coded.csv
    exit status 1, no output
    error: `coded.csv` is named for two results; choose another file for one of them
    --- ./coded.csv ---
    no report

    $ medscenario survey table.csv --output table.csv
    exit status 1, no output
    error: `table.csv` is an input and would be overwritten; choose another file

    $ medscenario survey table.csv --errors table.csv
    exit status 1, no output
    error: `table.csv` is an input and would be overwritten; choose another file
    --- table.csv ---
    id,text
    1,triages outpatients
    2,

    $ medscenario survey coded.jsonl --errors coded.jsonl
    exit status 1, no output
    error: `coded.jsonl` is an input and would be overwritten; choose another file
    --- coded.jsonl ---
    {"id":"g1","text":"triages","status":"coded","scenarios":[8]}

    $ medscenario survey table.csv --output new.csv --errors new.csv
    exit status 1, no output
    error: `new.csv` is named for two results; choose another file for one of them
    --- new.csv ---
    no report

    $ medscenario model embed table.csv --errors table.csv
    exit status 1, no output
    error: `table.csv` is an input and would be overwritten; choose another file
    --- table.csv ---
    id,text
    1,triages outpatients
    2,

    $ medscenario eval gold.jsonl --output gold.jsonl
    exit status 1, no output
    error: `gold.jsonl` is an input and would be overwritten; choose another file

    $ medscenario eval gold.jsonl --predictions coded.jsonl --output coded.jsonl
    exit status 1, no output
    error: `coded.jsonl` is an input and would be overwritten; choose another file
    "#);
}

#[test]
fn runs_that_cannot_be_continued_are_named() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triages outpatients\n");
    let counts =
        r#"{"rows":0,"records":0,"rejected":0,"coded":0,"outside":0,"unspecified":0,"mentions":0,"truncated":0}"#;
    let state = format!(
        r#"{{"fingerprint":"of other flags","journal_bytes":0,"errors_bytes":0,"counts":{counts},"columns":[]}}"#
    );
    workspace.file("other.jsonl.partial", "").file("other.jsonl.partial.state", state);
    workspace.file("broken.jsonl.partial", "").file("broken.jsonl.partial.state", "{");
    assert_snapshot!(workspace.run_all(&[
        "classify table.csv --output new.jsonl --resume",
        "classify table.csv --output other.jsonl --resume --labels-only",
        "classify table.csv --output broken.jsonl --resume",
        "classify - --output new.jsonl --resume",
    ]), @"
    $ medscenario classify table.csv --output new.jsonl --resume
    exit status 1, no output
    error: There is no interrupted run at `new.jsonl.partial`; leave --resume out to start one

    $ medscenario classify table.csv --output other.jsonl --resume --labels-only
    exit status 1, no output
    error: The interrupted run at `other.jsonl.partial` had other inputs, another model or other flags; repeat its command line, or leave --resume out to start over

    $ medscenario classify table.csv --output broken.jsonl --resume
    exit status 1, no output
    error: The state `broken.jsonl.partial.state` is damaged; leave --resume out to start over

    $ medscenario classify - --output new.jsonl --resume
    exit status 1, no output
    error: standard input cannot be read again from its beginning; --resume needs files
    ");
    let kept = std::fs::read_to_string(workspace.path("other.jsonl.partial.state")).expect("a refused run stays");
    assert!(kept.contains("of other flags"));
}

#[test]
fn a_lookup_needs_a_text() {
    let workspace = Workspace::new();
    let all = [
        workspace.run_with(&["lookup", ""], b""),
        workspace.run_with(&["lookup", "  "], b""),
        workspace.run_with(&["lookup", "-"], b""),
        workspace.run_with(&["lookup", "-"], b"bro\xffken"),
    ];
    assert_snapshot!(all.join("\n"), @r#"
    $ medscenario lookup ''
    exit status 1, no output
    error: the description is empty; expected a text such as "triages outpatients by symptoms"

    $ medscenario lookup '  '
    exit status 1, no output
    error: the description is empty; expected a text such as "triages outpatients by symptoms"

    $ medscenario lookup -
    exit status 1, no output
    error: the description is empty; expected a text such as "triages outpatients by symptoms"

    $ medscenario lookup -
    exit status 1, no output
    error: Failed to read standard input as UTF-8 text
      Caused by: stream did not contain valid UTF-8
    "#);
}

#[test]
fn labels_that_contradict_themselves_or_the_taxonomy_are_named() {
    let workspace = Workspace::new();
    let good = r#"{"id":"g1","lang":"en","text":"triages outpatients","scenarios":[8]}"#;
    let label = |name: &str, second: &str| {
        workspace.file(&format!("{name}.jsonl"), format!("{good}\n{second}\n"));
    };
    workspace.file("empty.jsonl", "\n");
    label("json", r#"{"id":"g2","text":"cut off"#);
    label("list", r#"["g2","a text",[8]]"#);
    // In the order of the fields, which a parser of objects may take for one.
    label("fields", r#"["g2",null,"a text",[8],null,{},null,null]"#);
    label("unlabelled", r#"{"id":"g2","text":"a text"}"#);
    label("names", r#"{"id":"g2","text":"a text","scenarios":["导诊"]}"#);
    label("status", r#"{"id":"g2","text":"a text","scenarios":[],"status":"maybe"}"#);
    label("lang", r#"{"id":"g2","text":"a text","scenarios":[],"lang":"fr"}"#);
    label("blank", r#"{"id":"g2","text":" ","scenarios":[8]}"#);
    label("unknown", r#"{"id":"g2","text":"a text","scenarios":[8,999]}"#);
    label("order", r#"{"id":"g2","text":"a text","scenarios":[9,8]}"#);
    label("repeated", r#"{"id":"g2","text":"a text","scenarios":[8,8]}"#);
    label("coded", r#"{"id":"g2","text":"a text","scenarios":[],"status":"coded"}"#);
    label("outside", r#"{"id":"g2","text":"a text","scenarios":[8],"status":"outside"}"#);
    label("evidence", r#"{"id":"g2","text":"a text","scenarios":[8],"evidence":{"9":["text"]}}"#);
    label("quote", r#"{"id":"g2","text":"a text","scenarios":[8],"evidence":{"8":["word"]}}"#);
    label("twice", good);
    workspace.file("good.jsonl", format!("{good}\n"));
    workspace.file("bytes.jsonl", b"{\"id\":\"g\xff\"}\n");
    assert_snapshot!(workspace.run_all(&[
        "eval missing.jsonl",
        "eval empty.jsonl",
        "eval bytes.jsonl",
        "eval json.jsonl",
        "eval list.jsonl",
        "eval fields.jsonl",
        "eval unlabelled.jsonl",
        "eval names.jsonl",
        "eval status.jsonl",
        "eval lang.jsonl",
        "eval blank.jsonl",
        "eval unknown.jsonl",
        "eval order.jsonl",
        "eval repeated.jsonl",
        "eval coded.jsonl",
        "eval outside.jsonl",
        "eval evidence.jsonl",
        "eval quote.jsonl",
        "eval twice.jsonl",
        "eval good.jsonl twice.jsonl",
        "eval good.jsonl --only zh",
        "train unknown.jsonl --encoder encoder --output bundle",
        "train good.jsonl --calibrate order.jsonl --encoder encoder --output bundle",
    ]), @r#"
    $ medscenario eval missing.jsonl
    exit status 1, no output
    error: Failed to read labels `missing.jsonl`
      Caused by: No such file or directory (os error [N])

    $ medscenario eval empty.jsonl
    exit status 1, no output
    error: `empty.jsonl` has no labelled text; expected one JSON object a line

    $ medscenario eval bytes.jsonl
    exit status 1, no output
    error: Failed to read labels `bytes.jsonl`
      Caused by: stream did not contain valid UTF-8

    $ medscenario eval json.jsonl
    exit status 1, no output
    error: `json.jsonl` line 2: not a labelled text: EOF while parsing a string at column 26; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval list.jsonl
    exit status 1, no output
    error: `list.jsonl` line 2: not a labelled text: it is no JSON object; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval fields.jsonl
    exit status 1, no output
    error: `fields.jsonl` line 2: not a labelled text: it is no JSON object; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval unlabelled.jsonl
    exit status 1, no output
    error: `unlabelled.jsonl` line 2: not a labelled text: missing field `scenarios` at column 27; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval names.jsonl
    exit status 1, no output
    error: `names.jsonl` line 2: not a labelled text: invalid type: string "导诊", expected u32 at column 48; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval status.jsonl
    exit status 1, no output
    error: `status.jsonl` line 2: not a labelled text: unknown variant `maybe`, expected one of `coded`, `outside`, `unspecified` at column 58; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval lang.jsonl
    exit status 1, no output
    error: `lang.jsonl` line 2: not a labelled text: unknown variant `fr`, expected `zh` or `en` at column 53; expected an object with `id`, `text` and the numbers of `scenarios`

    $ medscenario eval blank.jsonl
    exit status 1, no output
    error: `blank.jsonl` line 2: `text` is empty; expected a description

    $ medscenario eval unknown.jsonl
    exit status 1, no output
    error: `unknown.jsonl` line 2: scenario 999 is not in taxonomy `nhc-2024`; `medscenario taxonomy list` shows those that are

    $ medscenario eval order.jsonl
    exit status 1, no output
    error: `order.jsonl` line 2: `scenarios` must be ascending without repetition

    $ medscenario eval repeated.jsonl
    exit status 1, no output
    error: `repeated.jsonl` line 2: `scenarios` must be ascending without repetition

    $ medscenario eval coded.jsonl
    exit status 1, no output
    error: `coded.jsonl` line 2: `status` is coded, but `scenarios` is empty; name a scenario, or set outside or unspecified

    $ medscenario eval outside.jsonl
    exit status 1, no output
    error: `outside.jsonl` line 2: `status` is outside, but `scenarios` is not empty; set coded, or empty it

    $ medscenario eval evidence.jsonl
    exit status 1, no output
    error: `evidence.jsonl` line 2: `evidence` names scenario 9, which `scenarios` does not; add it there, or remove it

    $ medscenario eval quote.jsonl
    exit status 1, no output
    error: `quote.jsonl` line 2: evidence of scenario 8 is not in the text: `word`; quote the text as it stands

    $ medscenario eval twice.jsonl
    exit status 1, no output
    error: `twice.jsonl` line 2: id `g1` occurs a second time; ids must be unique

    $ medscenario eval good.jsonl twice.jsonl
    exit status 1, no output
    error: `twice.jsonl` line 1: id `g1` occurs a second time; ids must be unique

    $ medscenario eval good.jsonl --only zh
    exit status 1, no output
    error: no labelled text has `lang` zh; leave --only out

    $ medscenario train unknown.jsonl --encoder encoder --output bundle
    exit status 1, no output
    error: `unknown.jsonl` line 2: scenario 999 is not in taxonomy `nhc-2024`; `medscenario taxonomy list` shows those that are

    $ medscenario train good.jsonl --calibrate order.jsonl --encoder encoder --output bundle
    exit status 1, no output
    error: `order.jsonl` line 2: `scenarios` must be ascending without repetition
    "#);
}

#[test]
fn predictions_must_be_there_for_every_labelled_text() {
    let workspace = Workspace::new();
    let gold = "{\"id\":\"g1\",\"text\":\"triages\",\"scenarios\":[8]}\n{\"id\":\"g2\",\"text\":\"writes\",\"scenarios\":[]}\n";
    workspace.file("gold.jsonl", gold);
    let first = r#"{"id":"g1","status":"coded","scenarios":[8]}"#;
    workspace.file("short.jsonl", format!("{first}\n"));
    workspace.file("broken.jsonl", format!("{first}\n{{\"id\":\"g2\"}}\n"));
    workspace.file("unknown.jsonl", format!("{first}\n{{\"id\":\"g2\",\"status\":\"coded\",\"scenarios\":[999]}}\n"));
    let second = r#"{"id":"g2","status":"unspecified","scenarios":[]}"#;
    workspace.file("twice.jsonl", format!("{first}\n{second}\n{first}\n"));
    let other = r#"{"id":"g2","status":"coded","scenarios":[9],"taxonomy":"tiny@0123456789ab"}"#;
    workspace.file("other.jsonl", format!("{first}\n{other}\n"));
    let fields = r#"[1,"g2",null,"unspecified",[],[],[],false,"",{}]"#;
    workspace.file("list.jsonl", format!("{first}\n{fields}\n"));
    let few = r#"{"id":"g2","status":"unspecified","scenarios":[],"probabilities":[0.1,0.2]}"#;
    workspace.file("few.jsonl", format!("{first}\n{few}\n"));
    assert_snapshot!(workspace.run_all(&[
        "eval gold.jsonl --predictions missing.jsonl",
        "eval gold.jsonl --predictions short.jsonl",
        "eval gold.jsonl --predictions broken.jsonl",
        "eval gold.jsonl --predictions unknown.jsonl",
        "eval gold.jsonl --predictions twice.jsonl",
        "eval gold.jsonl --predictions other.jsonl",
        "eval gold.jsonl --predictions list.jsonl",
        "eval gold.jsonl --predictions few.jsonl",
    ]), @"
    $ medscenario eval gold.jsonl --predictions missing.jsonl
    exit status 1, no output
    error: Failed to open predictions `missing.jsonl`
      Caused by: No such file or directory (os error [N])

    $ medscenario eval gold.jsonl --predictions short.jsonl
    exit status 1, no output
    error: `short.jsonl` has no prediction for `g2`; classify the same texts

    $ medscenario eval gold.jsonl --predictions broken.jsonl
    exit status 1, no output
    error: Failed to read predictions `broken.jsonl` line 2
      Caused by: not a line that `classify` writes: missing field `status` at column 11; expected its JSONL output

    $ medscenario eval gold.jsonl --predictions unknown.jsonl
    exit status 1, no output
    error: `unknown.jsonl`: scenario 999 of `g2` is not in taxonomy `nhc-2024`; choose its --taxonomy

    $ medscenario eval gold.jsonl --predictions twice.jsonl
    exit status 1, no output
    error: `twice.jsonl` line 3: id `g1` occurs a second time; each text has one prediction

    $ medscenario eval gold.jsonl --predictions other.jsonl
    exit status 1, no output
    error: Failed to read predictions `other.jsonl` line 2
      Caused by: it was coded with taxonomy `tiny@[digest]`, and `nhc-2024@[digest]` is loaded; choose its --taxonomy

    $ medscenario eval gold.jsonl --predictions list.jsonl
    exit status 1, no output
    error: Failed to read predictions `list.jsonl` line 2
      Caused by: not a line that `classify` writes: it is no JSON object; expected its JSONL output

    $ medscenario eval gold.jsonl --predictions few.jsonl
    exit status 1, no output
    error: `few.jsonl`: `g2` has 2 probabilities; expected one for each of the 84 scenarios of taxonomy `nhc-2024`, or none
    ");
}

#[test]
fn surveys_refuse_what_they_cannot_count() {
    let workspace = Workspace::new();
    workspace.file("tiny/taxonomy.toml", TINY);
    workspace.file("table.csv", "id,text,year\n1,triages outpatients,2024\n");
    let coded = |id: &str, scenario: u32, taxonomy: &str| {
        format!("{{\"id\":\"{id}\",\"status\":\"coded\",\"scenarios\":[{scenario}],\"taxonomy\":\"{taxonomy}\"}}\n")
    };
    workspace.file("coded.jsonl", coded("1", 8, ""));
    workspace.file("twice.jsonl", coded("1", 8, "") + &coded("1", 9, ""));
    workspace.file("unknown.jsonl", coded("1", 999, ""));
    workspace.file("other.jsonl", coded("1", 1, "tiny@0123456789ab"));
    workspace.file("broken.jsonl", coded("1", 8, "") + "{\"id\":\"2\"}\n");
    // With a text, it would pass for a table to classify.
    let labelled = "{\"id\":\"2\",\"text\":\"triages\",\"status\":\"coded\",\"scenarios\":[8]}\n";
    workspace.file("first.jsonl", format!("{{\"id\":\"1\n{labelled}"));
    assert_snapshot!(workspace.run_all(&[
        "survey table.csv --by yaer --by year",
        "survey coded.jsonl --by developer",
        "survey coded.jsonl table.csv",
        "survey twice.jsonl",
        "survey unknown.jsonl",
        "survey other.jsonl",
        "survey broken.jsonl",
        "survey first.jsonl",
    ]), @"
    $ medscenario survey table.csv --by yaer --by year
    exit status 1, no output
    error: no record has a column `yaer`; --by takes a column of the input, or `year` where there is a release date

    $ medscenario survey coded.jsonl --by developer
    exit status 1, no output
    error: no record has a column `developer`; --by takes a column of the input, or `year` where there is a release date

    $ medscenario survey coded.jsonl table.csv
    exit status 1, no output
    error: some inputs are coded and others are not; survey them apart, or classify the others first

    $ medscenario survey twice.jsonl
    exit status 1, no output
    error: `twice.jsonl` line 2: id `1` occurs a second time; each product counts once

    $ medscenario survey unknown.jsonl
    exit status 1, no output
    error: `unknown.jsonl` line 1: scenario 999 is not in taxonomy `nhc-2024`; choose its --taxonomy

    $ medscenario survey other.jsonl
    exit status 1, no output
    error: Failed to read `other.jsonl` line 1
      Caused by: it was coded with taxonomy `tiny@[digest]`, and `nhc-2024@[digest]` is loaded; choose its --taxonomy

    $ medscenario survey broken.jsonl
    exit status 1, no output
    error: Failed to read `broken.jsonl` line 2
      Caused by: not a line that `classify` writes: missing field `status` at column 10; expected its JSONL output

    $ medscenario survey first.jsonl
    exit status 1, no output
    error: Failed to read `first.jsonl` line 1
      Caused by: not a line that `classify` writes: EOF while parsing a string at column 8; expected its JSONL output
    ");
}

#[test]
fn taxonomies_that_contradict_themselves_are_refused() {
    let workspace = Workspace::new();
    let change = |name: &str, from: &str, to: &str| {
        assert!(TINY.contains(from), "`{from}` is there to be changed");
        workspace.file(&format!("{name}/taxonomy.toml"), TINY.replacen(from, to, 1));
    };
    change("syntax", "version = \"1\"", "version = ");
    change("key", "version = \"1\"", "version = \"1\"\ncolour = \"red\"");
    change("format", "format = 1", "format = 2");
    change("twice", "id = 2", "id = 1");
    change("zero", "id = 2", "id = 0");
    change("category", "\ncategory = 1", "\ncategory = 3");
    change("section", "section = 1", "section = 3");
    change("neighbour", "neighbour = 1", "neighbour = 7");
    change("itself", "neighbour = 1", "neighbour = 2");
    change("files", "version = \"1\"", "version = \"1\"\nscenario_files = [\"more.toml\"]");
    workspace.file("other.toml", "format = \n");
    change("nameless", "{ zh = \"随访\", en = \"Follow-up after triage\" }", "{ zh = \"\", en = \"\" }");
    assert_snapshot!(workspace.run_all(&[
        "taxonomy list --taxonomy nowhere",
        "taxonomy list --taxonomy syntax",
        "taxonomy list --taxonomy key",
        "taxonomy list --taxonomy other.toml",
        "taxonomy list --taxonomy format",
        "taxonomy list --taxonomy twice",
        "taxonomy list --taxonomy zero",
        "taxonomy list --taxonomy category",
        "taxonomy list --taxonomy section",
        "taxonomy list --taxonomy neighbour",
        "taxonomy list --taxonomy itself",
        "taxonomy list --taxonomy files",
        "taxonomy list --taxonomy nameless",
    ]), @r#"
    $ medscenario taxonomy list --taxonomy nowhere
    exit status 1, no output
    error: Failed to read taxonomy file `nowhere`
      Caused by: No such file or directory (os error [N])

    $ medscenario taxonomy list --taxonomy syntax
    exit status 1, no output
    error: Failed to parse taxonomy file `syntax/taxonomy.toml`
      Caused by: TOML parse error at line 4, column 11
      |
    4 | version = 
      |           ^
    string values must be quoted, expected literal string


    $ medscenario taxonomy list --taxonomy key
    exit status 1, no output
    error: Failed to parse taxonomy file `key/taxonomy.toml`
      Caused by: TOML parse error at line 5, column 1
      |
    5 | colour = "red"
      | ^^^^^^
    unknown field `colour`, expected one of `format`, `id`, `version`, `title`, `publisher`, `document`, `issued`, `scenario_files`, `note`, `section`, `category`, `scenario`


    $ medscenario taxonomy list --taxonomy other.toml
    exit status 1, no output
    error: Failed to parse taxonomy file `other.toml`
      Caused by: TOML parse error at line 1, column 10
      |
    1 | format = 
      |          ^
    string values must be quoted, expected literal string


    $ medscenario taxonomy list --taxonomy format
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: `format` is 2, and this program reads format 1

    $ medscenario taxonomy list --taxonomy twice
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: scenario id 1 occurs twice

    $ medscenario taxonomy list --taxonomy zero
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: a scenario has id 0, which is reserved; ids start at 1

    $ medscenario taxonomy list --taxonomy category
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: scenario 1 names category 3, which does not exist

    $ medscenario taxonomy list --taxonomy section
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: category 1 names section 3, which does not exist

    $ medscenario taxonomy list --taxonomy neighbour
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: scenario 2 names neighbour 7, which does not exist

    $ medscenario taxonomy list --taxonomy itself
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: scenario 2 excludes itself

    $ medscenario taxonomy list --taxonomy files
    exit status 1, no output
    error: Failed to read taxonomy file `files/more.toml`
      Caused by: No such file or directory (os error [N])

    $ medscenario taxonomy list --taxonomy nameless
    exit status 1, no output
    error: Taxonomy `tiny` is not usable: scenario 2 has no name
    "#);
}

#[test]
fn a_scenario_must_be_named_unmistakably() {
    let workspace = Workspace::new();
    workspace.file("tiny/taxonomy.toml", TINY);
    assert_snapshot!(workspace.run_all(&[
        "taxonomy show teleportation",
        "taxonomy show 9999",
        "taxonomy show 0",
        "taxonomy show 0 --taxonomy tiny",
        "taxonomy show tria --taxonomy tiny",
    ]), @"
    $ medscenario taxonomy show teleportation
    exit status 1, no output
    error: no scenario of `nhc-2024` is called `teleportation`; `medscenario taxonomy list` shows them all

    $ medscenario taxonomy show 9999
    exit status 1, no output
    error: no scenario of `nhc-2024` is called `9999`; `medscenario taxonomy list` shows them all

    $ medscenario taxonomy show 0
    exit status 1, no output
    error: no scenario of `nhc-2024` is called `0`; `medscenario taxonomy list` shows them all

    $ medscenario taxonomy show 0 --taxonomy tiny
    exit status 1, no output
    error: no scenario of `tiny` is called `0`; `medscenario taxonomy list` shows them all

    $ medscenario taxonomy show tria --taxonomy tiny
    exit status 1, no output
    error: `tria` matches several scenarios of `tiny`: 1, 2; name one by its number
    ");
    assert_snapshot!(workspace.run_with(&["taxonomy", "show", " "], b""), @"
    $ medscenario taxonomy show ' '
    exit status 1, no output
    error: no scenario of `nhc-2024` is called ` `; `medscenario taxonomy list` shows them all
    ");
}

#[test]
fn bundles_that_cannot_be_used_are_named() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triages outpatients\n").file("tiny/taxonomy.toml", TINY);
    workspace.file("bare/README.md", "no bundle");
    workspace.file(&format!("broken/{MANIFEST}"), "{");
    workspace.file(&format!("future/{MANIFEST}"), r#"{"format":7}"#);
    workspace.file(&format!("other/{MANIFEST}"), r#"{"name":"of another program"}"#);
    workspace.file(&format!("partial/{MANIFEST}"), r#"{"format":6,"name":"partial"}"#);
    copy_bundle(&workspace, "changed");
    let mut head = std::fs::read(workspace.path("changed").join(HEAD)).expect("copied");
    *head.last_mut().expect("a head has bytes") ^= 1;
    workspace.file(&format!("changed/{HEAD}"), head);
    copy_bundle(&workspace, "incomplete");
    std::fs::remove_file(workspace.path("incomplete").join(HEAD)).expect("copied");
    assert_snapshot!(workspace.run_all(&[
        "model verify nowhere",
        "model verify bare",
        "model verify broken",
        "model verify future",
        "model verify other",
        "model verify partial",
        "model verify changed",
        "model verify incomplete",
        "classify table.csv --model bare",
        "classify table.csv --taxonomy tiny",
        "classify table.csv --model changed --taxonomy tiny",
        "lookup triage --taxonomy tiny",
        "model info bare",
    ]), @"
    $ medscenario model verify nowhere
    exit status 1, no output
    error: Bundle `nowhere` has no `manifest.json`; train one with `medscenario train`, or name none to use the built-in one

    $ medscenario model verify bare
    exit status 1, no output
    error: Bundle `bare` has no `manifest.json`; train one with `medscenario train`, or name none to use the built-in one

    $ medscenario model verify broken
    exit status 1, no output
    error: `manifest.json` of bundle `broken` cannot be used: EOF while parsing an object at line 1 column 1

    $ medscenario model verify future
    exit status 1, no output
    error: `manifest.json` of bundle `future` cannot be used: its format is 7, and this program reads format 6; train the bundle again

    $ medscenario model verify other
    exit status 1, no output
    error: `manifest.json` of bundle `other` cannot be used: its format is none, and this program reads format 6; train the bundle again

    $ medscenario model verify partial
    exit status 1, no output
    error: `manifest.json` of bundle `partial` cannot be used: missing field `created_with`

    $ medscenario model verify changed
    exit status 1, no output
    error: `head.safetensors` of bundle `changed` cannot be used: its SHA-256 is [SHA-256], the manifest says [SHA-256]; copy the bundle again

    $ medscenario model verify incomplete
    exit status 1, no output
    error: Bundle `incomplete` has no `head.safetensors`; train one with `medscenario train`, or name none to use the built-in one

    $ medscenario classify table.csv --model bare
    exit status 1, no output
    error: Bundle `bare` has no `manifest.json`; train one with `medscenario train`, or name none to use the built-in one

    $ medscenario classify table.csv --taxonomy tiny
    exit status 1, no output
    error: Bundle `built-in` was trained for taxonomy `nhc-2024 [digest]`, and `tiny [digest]` is loaded; choose a --taxonomy and a --model that belong together, train one with `medscenario train`, or rank without labels with --zero-shot

    $ medscenario classify table.csv --model changed --taxonomy tiny
    exit status 1, no output
    error: Bundle `changed` was trained for taxonomy `nhc-2024 [digest]`, and `tiny [digest]` is loaded; choose a --taxonomy and a --model that belong together, train one with `medscenario train`, or rank without labels with --zero-shot

    $ medscenario lookup triage --taxonomy tiny
    exit status 1, no output
    error: Bundle `built-in` was trained for taxonomy `nhc-2024 [digest]`, and `tiny [digest]` is loaded; choose a --taxonomy and a --model that belong together, train one with `medscenario train`, or rank without labels with --zero-shot

    $ medscenario model info bare
    exit status 1, no output
    error: Checkpoint `bare` has no `config.json`; expected config.json, tokenizer.json and model.safetensors
    ");
}

#[test]
fn encoders_that_cannot_be_used_are_named() {
    let workspace = Workspace::new();
    workspace.file("labels.jsonl", "{\"id\":\"1\",\"text\":\"triages\",\"scenarios\":[8]}\n");
    workspace.file("lines.txt", "triages outpatients\n");
    let config = std::fs::read_to_string(default_bundle().join("config.json")).expect("an encoder has a configuration");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("a configuration is JSON");
    config["model_type"] = "gpt2".into();
    workspace.file("gpt/config.json", config.to_string());
    workspace.file("bundle/manifest.json", "{}");
    assert_snapshot!(workspace.run_all(&[
        "model fetch all-MiniLM-L6-v2",
        "model fetch hf://all-MiniLM-L6-v2",
        "model fetch hf://owner/name@",
        "model fetch hf://owner/name",
        "model embed lines.txt --encoder hf://owner",
        "model embed lines.txt --encoder nowhere",
        "model embed lines.txt --encoder gpt",
        "train labels.jsonl --encoder hf://owner --output new",
        "train labels.jsonl --encoder nowhere --output new",
        "train labels.jsonl --encoder nowhere --output bundle",
    ]), @"
    $ medscenario model fetch all-MiniLM-L6-v2
    exit status 1, no output
    error: `all-MiniLM-L6-v2` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION

    $ medscenario model fetch hf://all-MiniLM-L6-v2
    exit status 1, no output
    error: `hf://all-MiniLM-L6-v2` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION

    $ medscenario model fetch hf://owner/name@
    exit status 1, no output
    error: `hf://owner/name@` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION

    $ medscenario model fetch hf://owner/name
    exit status 1, no output
    error: `owner/name` at revision `main` is not in the cache `hub/hub`, and HF_HUB_OFFLINE forbids fetching it

    $ medscenario model embed lines.txt --encoder hf://owner
    exit status 1, no output
    error: `hf://owner` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION

    $ medscenario model embed lines.txt --encoder nowhere
    exit status 1, no output
    error: Checkpoint `nowhere` has no `config.json`; expected config.json, tokenizer.json and model.safetensors

    $ medscenario model embed lines.txt --encoder gpt
    exit status 1, no output
    error: `config.json` of checkpoint `gpt` cannot be used: `model_type` is `gpt2`; expected `bert`, `roberta` or `xlm-roberta`

    $ medscenario train labels.jsonl --encoder hf://owner --output new
    exit status 1, no output
    error: `hf://owner` is not a model name; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION

    $ medscenario train labels.jsonl --encoder nowhere --output new
    exit status 1, no output
    error: Checkpoint `nowhere` has no `config.json`; expected config.json, tokenizer.json and model.safetensors

    $ medscenario train labels.jsonl --encoder nowhere --output bundle
    exit status 1, no output
    error: `bundle` holds a bundle already; choose another --output, or remove it first
    ");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_can_only_be_asked_for_where_the_program_was_built_for_one() {
    let workspace = Workspace::new();
    workspace.file("table.csv", "id,text\n1,triages outpatients\n");
    assert_snapshot!(workspace.run_all(&[
        "classify table.csv --device cuda",
        "model embed table.csv --device cuda",
        "classify table.csv --device gpu",
    ]), @"
    $ medscenario classify table.csv --device cuda
    exit status 1, no output
    error: This program was built without GPU support; build it with `cargo build --release --features cuda`, or use `--device cpu`

    $ medscenario model embed table.csv --device cuda
    exit status 1, no output
    error: This program was built without GPU support; build it with `cargo build --release --features cuda`, or use `--device cpu`

    $ medscenario classify table.csv --device gpu
    exit status 2, no output
    error: invalid value 'gpu' for '--device <DEVICE>'
      [possible values: cpu, cuda, auto]

      tip: a similar value exists: 'cpu'

    For more information, try '--help'.
    ");
}

#[test]
fn the_tiny_taxonomy_itself_is_good() {
    let workspace = Workspace::new();
    workspace.file("tiny.toml", TINY);
    let taxonomy = Taxonomy::from_path(&workspace.path("tiny.toml")).expect("only changes to it are refused");
    assert_eq!(taxonomy.len(), 2);
}
